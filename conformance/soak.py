"""Run hundreds of jobs in a row, kill some of them, and count what is left.

    python -m conformance.soak [--impl reference] [--jobs 200] [--kills 20]

Then call modules that share a graph from eight threads, a thousand times each.

Figures like these take minutes and settle no single clause; chapter PRC has those.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from rich.console import Console
from rich.table import Table

from conformance import environment, isolated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.adapter import Adapter, Workers

_WARM_UP = 10  # jobs, before memory is read for the first time
_GROWTH = 0.05


class Figure(NamedTuple):
    """A number that was found, what it had to be, and whether it was."""

    name: str
    found: str
    wanted: str
    good: bool


def exactly(name: str, found: int, wanted: int) -> Figure:
    """Judge a count."""
    return Figure(name, str(found), str(wanted), found == wanted)


def jobs(impl: Workers, *, count: int, kills: int, seed: int) -> list[Figure]:
    """Run `count` jobs, `kills` of them killed at a random moment, and take stock.

    The parent computes nothing: the model is made, and the answers that are to come
    are found, in jobs too.
    """
    import torch

    from conformance.models import applying, blocks

    module = blocks.seeded(applying.Kinds, seed)
    calls = [applying.kinds_call(seed + n) for n in range(count)]
    compiled = impl.worker(lambda: _compiled(impl, seed))()
    wanted = impl.worker(lambda: [module(*call.args).cpu() for call in calls])()
    impl.apply(compiled, module)
    job = impl.worker(lambda number: module(*calls[number].args).cpu(), duration_s=60)

    times = [_timed(lambda: job(0)) for _ in range(_WARM_UP)]
    gc.collect()
    resident, descriptors, segments = _resident(), _descriptors(), _segments()
    chances = random.Random(seed)  # noqa: S311
    doomed = set(chances.sample(range(count), kills))
    killed = told = wrong = lost = 0
    for number in range(count):
        executioner = _Executioner(chances.uniform(0, statistics.median(times)))
        with executioner if number in doomed else contextlib.nullcontext():
            try:
                answer = job(number)
            except Exception:  # noqa: BLE001  # judged below
                answer = None
        if executioner.hit:
            killed += 1
            told += answer is None
        elif answer is None:
            lost += 1
        if answer is not None and not torch.allclose(answer, wanted[number]):
            wrong += 1
        if number in doomed and not executioner.hit:  # too late: the next one, then
            later = set(range(number + 1, count)) - doomed
            doomed |= set(sorted(later)[:1])
    gc.collect()
    growth = _resident() / resident - 1
    return [
        exactly("jobs killed", killed, kills),
        exactly("other jobs without an answer", lost, 0),
        exactly("wrong answers", wrong, 0),
        Figure("killed jobs that were told", str(told), "any", good=True),
        exactly("files left", len(list(Path(tempfile.gettempdir()).iterdir())), 0),
        exactly("processes left, zombies included", len(list(_children())), 0),
        exactly("shared-memory segments left", len(_segments() - segments), 0),
        exactly("descriptors more", _descriptors() - descriptors, 0),
        Figure("growth of the parent's RSS", f"{growth:+.1%}", "5 %", growth < _GROWTH),
        Figure("median job", f"{statistics.median(times) * 1e3:.0f} ms", "any", True),
    ]


class _Executioner:
    """Kills the first child that it finds, after a delay."""

    def __init__(self, delay_s: float) -> None:
        self.hit = False
        self._timer = threading.Timer(delay_s, self._strike)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_error: object) -> None:
        self._timer.join()

    def _strike(self) -> None:
        for pid in _children(dead=False):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.hit = True


def _compiled(impl: Workers, seed: int) -> Any:
    from conformance.models import applying, blocks

    module, call = blocks.seeded(applying.Kinds, seed), applying.kinds_call()
    return impl.compile(impl.export(module, call))


def _timed(function: Any) -> float:
    began = time.monotonic()
    function()
    return time.monotonic() - began


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _segments() -> set[Path]:
    return set(Path("/dev/shm").iterdir())  # noqa: S108


def _children(*, dead: bool = True) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            stat = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2]
            state, parent = stat.split()[:2]
            if int(parent) == os.getpid() and (dead or state != "Z"):
                yield int(entry.name)


def calls_at_once(impl: Adapter, cache: Path) -> list[Figure]:
    """Call from many threads, in a child: this process computes nothing."""

    def work() -> dict[str, Any]:
        from conformance.soak_threads import threads

        return threads(impl, cache=cache)

    ending = isolated.run_forked(work, deadline_s=900)
    if ending.kind != "answer":
        return [Figure("calls from threads", ending.text.strip(), "answers", False)]
    found = ending.answer
    return [
        exactly("right answers to threads", found["right"], found["calls"]),
        exactly("threads that hang", found["stuck"], 0),
        exactly("kinds of errors in threads", len(found["errors"]), 0),
        Figure("seconds for all calls", f"{found['seconds']:.1f}", "any", True),
    ]


def soak(
    impl: Adapter, *, count: int, kills: int, seed: int, cache: Path
) -> list[Figure]:
    """Take all figures of an implementation, in a TMPDIR of its own."""
    if "worker" in impl.capabilities:
        figures = jobs(cast("Workers", impl), count=count, kills=kills, seed=seed)
    else:
        figures = [Figure("jobs", "it offers no worker", "any", good=True)]
    return figures + calls_at_once(impl, cache)


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, and write them down; 1 if one of them is not good."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--impl", default="reference", help="as for --aoti-impl")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    home = Path("~/.cache/aoti-conformance").expanduser()
    cache = Path(os.environ.get("AOTI_CACHE", home))
    parser.add_argument("--cache", type=Path, default=cache, help="compiled packages")
    parser.add_argument("--output", type=Path, help="a file for the figures, as JSON")
    options = parser.parse_args(arguments)
    isolated.prepare_environment()
    from conformance import adapter

    impl = adapter.load(options.impl)
    isolated.warm_up()
    with tempfile.TemporaryDirectory(prefix="soak_") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        figures = soak(
            impl,
            count=options.jobs,
            kills=options.kills,
            seed=options.seed,
            cache=options.cache,
        )
        tempfile.tempdir = None
        del os.environ["TMPDIR"]
    table = Table("figure", "found", "wanted", "", title=f"soak of {impl.info.name}")
    for figure in figures:
        word = "good" if figure.good else "BAD"
        table.add_row(figure.name, figure.found, figure.wanted, word)
    Console(width=100).print(table)
    if options.output:
        found = {
            "implementation": impl.info.name,
            "version": impl.info.version,
            "environment": environment.describe(),
            "figures": [figure._asdict() for figure in figures],
        }
        text = json.dumps(found, indent=1) + "\n"
        options.output.write_text(text, encoding="utf-8")
    return int(not all(figure.good for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
