"""What a call costs before it computes: the reference against torch's own wrapper.

Both call the same package of one small graph, with eight tensors and four other
arguments. They take turns within one run, and the clock is that of the thread, so that
what the machine does meanwhile is done to both, and counts for neither.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch
from torch import nn
from torch._inductor import aoti_load_package

import aoti_ref
from benchmarks import record

if TYPE_CHECKING:
    from collections.abc import Callable

AT_MOST = 0.8
_ROUNDS = 60
_CALLS = 200
_MICROSECONDS = 1e6


class Small(nn.Module):
    """Adds eight tensors of float32[2, 4]; the other arguments change what for."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(
        self,
        a: torch.Tensor,
        b: torch.Tensor,
        c: torch.Tensor,
        d: torch.Tensor,
        e: torch.Tensor,
        f: torch.Tensor,
        g: torch.Tensor,
        h: torch.Tensor,
        flag: bool = True,  # noqa: FBT001, FBT002
        times: int = 3,
        mode: str = "plus",
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        y: torch.Tensor = self.proj(a + b + c + d + e + f + g + h) * times
        y = -y if mode == "minus" else y
        y = y + 1 if flag else y
        return y if mask is None else y * mask


@click.command()
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write JSON."
)
def main(output: Path | None) -> None:
    """Print what a validated call costs as a share of torch's unvalidated one."""
    torch.set_num_threads(1)
    figures = measure()
    for name in ("reference", "torch", "eager"):
        cost = figures[name]
        click.echo(
            f"{name:<10} {cost['median']:6.2f} us"
            f"  (quartiles {cost['quartile_1']:.2f} to {cost['quartile_3']:.2f})"
        )
    click.echo(f"ratio      {figures['ratio']:.3f}  (at most {AT_MOST})")
    if output is not None:
        record.write(output, "overhead", figures)
    sys.exit(figures["ratio"] > AT_MOST)


def measure() -> dict[str, Any]:
    """Time both wrappers and eager, in microseconds per call, taking turns."""
    module, given = _module(), _arguments()
    eager = _module()
    eager.load_state_dict(module.state_dict())
    compiled = aoti_ref.compile(aoti_ref.export(module, aoti_ref.Call(given)))
    aoti_ref.apply(compiled, module)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.pt2"
        compiled.save(path)
        bare = aoti_load_package(str(path))
    weights = dict(module.state_dict())
    bare.load_constants(weights, check_full_update=True, user_managed=True)

    wanted = eager(*given)
    for answer in (module(*given), bare(*given)):
        torch.testing.assert_close(answer, wanted)
    ways: dict[str, Callable[..., Any]] = {
        # `forward` alone: torch's wrapper does not pass through Module.__call__ either.
        "reference": module.forward,
        "torch": bare,
        "eager": eager.forward,
    }
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS):
        for name, call in ways.items():
            start = time.thread_time()
            for _ in range(_CALLS):
                call(*given)
            costs[name].append((time.thread_time() - start) / _CALLS * _MICROSECONDS)
    found: dict[str, Any] = {name: record.spread(cost) for name, cost in costs.items()}
    pairs = zip(costs["reference"], costs["torch"], strict=True)
    ratios = record.spread([ours / theirs for ours, theirs in pairs])
    calls = {"rounds": _ROUNDS, "calls_per_round": _CALLS, "unit": "us per call"}
    return {**calls, **found, "ratio": ratios["median"], "ratio_spread": ratios}


def _module() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval().requires_grad_(requires_grad=False)


def _arguments() -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(2, 4, generator=generator) for _ in range(8)]
    return (*tensors, True, 3, "plus", None)


if __name__ == "__main__":
    with torch.no_grad():
        main()
