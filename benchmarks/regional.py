"""What compiling blocks saves, and what it costs at a call: a tiny FLUX on the CPU.

Both ways compile the same transformer of 8 + 16 blocks, in turns, in one process that
has compiled something before: what the first compile of a process costs is no part of
either, and is told apart. Blocks are compiled in two jobs, one for each graph, and in
one job, for comparison. Then both are called in turns. What counts is the median of
the pairs, since a machine that is busy with something else is so for both of a pair.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch
from torch import nn

import aoti_ref
import fixtures
from aoti_ref import AppliedModel
from benchmarks import record

if TYPE_CHECKING:
    from collections.abc import Callable

COMPILE_AT_MOST = 1 / 3
OVERHEAD_AT_MOST = 1.5
_LAYERS, _SINGLE = 8, 16
_BLOCKS = _LAYERS + _SINGLE
_TOKENS, _WORDS = 16, 12
_JOBS = 2  # one for each graph
_ROUNDS = 40
_PAIRS = 3
_CALLS = 10
_RUNNERS = 57
_MICROSECONDS = 1e6


@click.command()
@click.option(
    "--pairs", type=click.IntRange(min=1), default=_PAIRS, help="Compiles both ways."
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write JSON."
)
def main(pairs: int, output: Path | None) -> None:
    """Print the cost of compiled blocks as a share of that of the whole model."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # nothing from runs before
        figures = measure(pairs)
    times, calls = figures["compile"], figures["calls"]
    click.echo(f"start-up         {times['start_up_s']:7.1f} s   (in neither)")
    for name in ("regional", "one_job", "whole"):
        spelt = " ".join(f"{took:7.1f}" for took in times[f"{name}_s"])
        click.echo(f"{name:<8} compile {spelt} s")
    click.echo(
        f"ratio            {times['ratio']:7.3f}     (at most {COMPILE_AT_MOST:.3f})"
    )
    for name in ("regional", "whole", "eager"):
        click.echo(f"{name:<8} call    {calls[name]['median']:7.0f} us")
    for name in ("regional", "whole"):
        cost = calls[f"{name}_overhead"]["median"]
        click.echo(f"{name:<8} Python  {cost:7.1f} us per block call")
    click.echo(
        f"ratio            {calls['ratio']:7.2f}     (at most {OVERHEAD_AT_MOST})"
    )
    for name, peak in figures["peaks_bytes"].items():
        click.echo(
            f"{name:<8} memory  {peak / 2**20:7.0f} MiB at most, while compiling"
        )
    runner = figures["runners"]
    click.echo(
        f"a block more     {runner['us']:7.0f} us, {runner['kib']:.0f} KiB "
        f"(apply and bind, {_RUNNERS} runners over one library)"
    )
    if output is not None:
        record.write(output, "regional", figures)
    sys.exit(times["ratio"] > COMPILE_AT_MOST or calls["ratio"] > OVERHEAD_AT_MOST)


def measure(pairs: int) -> dict[str, Any]:
    """Compile both ways in turns, then call them in turns."""
    start = time.perf_counter()
    small = nn.Linear(4, 4).eval()
    aoti_ref.compile(aoti_ref.export(small, aoti_ref.Call((torch.zeros(2, 4),))))
    started_s = time.perf_counter() - start

    eager, call = _flux(), _call()
    regional, whole = copy.deepcopy(eager), copy.deepcopy(eager)
    ways: dict[str, Callable[[], Any]] = {
        "regional": lambda: _in_blocks(regional, call, jobs=_JOBS),
        "one_job": lambda: _in_blocks(regional, call),
        "whole": lambda: aoti_ref.compile(
            aoti_ref.export(whole, aoti_ref.Call((), call))
        ),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    made: dict[str, Any] = {}
    peaks = dict.fromkeys(ways, 0)
    for turn in range(pairs):
        for name in list(ways)[:: 1 if turn % 2 == 0 else -1]:
            before = time.perf_counter()
            made[name] = ways[name]()
            took[name].append(time.perf_counter() - before)
            peaks[name] = max(peaks[name], made[name].peak.host_bytes)
    del peaks["regional"]  # that of its jobs is not in it

    aoti_ref.apply(made["regional"], regional)
    aoti_ref.apply(made["whole"], whole)
    wanted = eager(**call)[0]
    for module in (regional, whole):
        torch.testing.assert_close(module(**call)[0], wanted)
    ratios = [r / w for r, w in zip(took["regional"], took["whole"], strict=True)]
    compiling = {
        "blocks": [_LAYERS, _SINGLE],
        "graphs": len(made["regional"].regions),
        "start_up_s": started_s,
        "regional_s": took["regional"],
        "whole_s": took["whole"],
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "one_job_s": took["one_job"],
        "jobs": _JOBS,
    }
    modules = {"regional": regional, "whole": whole, "eager": eager}
    return {
        "compile": compiling,
        "peaks_bytes": peaks,
        "calls": _called(modules, call),
        "runners": _runners(regional.transformer_blocks[0]),
    }


def _in_blocks(
    module: nn.Module, call: dict[str, Any], jobs: int = 1
) -> aoti_ref.CompiledRegions:
    with aoti_ref.capture_regions(module) as calls:
        module(**call)
    return aoti_ref.compile_regions(module, calls, progress=False, jobs=jobs)


def _called(ways: dict[str, Any], call: dict[str, Any]) -> dict[str, Any]:
    """Time calls in turns; Python's part is what the graphs alone do not take."""
    bare = {name: _graphs(ways[name], call) for name in ("regional", "whole")}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    costs |= {f"{name}_overhead": [] for name in bare}
    for _ in range(_ROUNDS):
        for name, module in ways.items():
            costs[name].append(_timed([partial(module, **call)]))
        for name, calls in bare.items():
            through = _timed([through for through, _ in calls])
            alone = _timed([alone for _, alone in calls])
            costs[f"{name}_overhead"].append((through - alone) / _BLOCKS)
    pairs = zip(costs["regional_overhead"], costs["whole_overhead"], strict=True)
    found: dict[str, Any] = {name: record.spread(cost) for name, cost in costs.items()}
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    size = {"rounds": _ROUNDS, "calls_per_round": _CALLS, "unit": "us"}
    return {**size, **found, "ratio": ratio}


def _graphs(
    module: nn.Module, call: dict[str, Any]
) -> list[tuple[Callable[[], Any], Callable[[], Any]]]:
    """Give, for each graph in a module, the call through Python and the graph alone."""
    found: list[tuple[Callable[[], Any], Callable[[], Any]]] = []

    def note(part: nn.Module, args: Any, kwargs: Any) -> None:
        applied = vars(part).get("forward")
        if isinstance(applied, AppliedModel):
            (graph,) = applied.graphs
            inputs = graph.check(args, kwargs)  # what it does itself
            run = graph.binding.runner.run  # type: ignore[union-attr]
            found.append((partial(part, *args, **kwargs), partial(run, inputs)))

    handles = [
        part.register_forward_pre_hook(note, with_kwargs=True)
        for part in module.modules()
        if "forward" in vars(part)
    ]
    module(**call)
    for handle in handles:
        handle.remove()
    return found


def _timed(functions: list[Callable[[], Any]]) -> float:
    """Time all functions, one after the other, in microseconds: the median pass.

    A mean would have in it whatever else the machine does in between.
    """
    passes: list[float] = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        for function in functions:
            function()
        passes.append(time.perf_counter() - start)
    return statistics.median(passes) * _MICROSECONDS


def _runners(block: nn.Module) -> dict[str, float]:
    """Measure what a block more costs to apply to: a runner, beside the library."""
    applied: Any = block.forward
    twins = [copy.copy(block) for _ in range(_RUNNERS)]
    for twin in twins:
        twin.__dict__ = {**vars(block)}
        del twin.__dict__["forward"]
    resident, start = _resident_kib(), time.perf_counter()
    for twin in twins:
        aoti_ref.apply(applied.compiled, twin)
        stand_in: Any = twin.forward
        stand_in.graphs[0].bind(twin)  # what the first call does
    took = (time.perf_counter() - start) / _RUNNERS * _MICROSECONDS
    return {"us": took, "kib": (_resident_kib() - resident) / _RUNNERS}


def _resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def _flux() -> Any:
    from diffusers import FluxTransformer2DModel

    path = fixtures.recipe("flux").folder / "transformer" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"num_layers": _LAYERS, "num_single_layers": _SINGLE}
    torch.manual_seed(0)
    module = FluxTransformer2DModel.from_config(config).eval()
    return module.requires_grad_(requires_grad=False)


def _call() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(1, _TOKENS, 16, generator=generator),
        "encoder_hidden_states": torch.randn(1, _WORDS, 32, generator=generator),
        "pooled_projections": torch.randn(1, 32, generator=generator),
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.5]),
        "img_ids": torch.zeros(_TOKENS, 3),
        "txt_ids": torch.zeros(_WORDS, 3),
        "return_dict": False,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the libraries' own deprecations
    with torch.no_grad():
        main()
