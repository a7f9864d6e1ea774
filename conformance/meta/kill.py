"""The kill table: every mutant must fail the clause that it was made to break.

    python -m conformance.meta.kill [-j N] [--cache DIR] [--write FILE]
                                    [--profile NAME] [MUTANT ...]

Each mutant runs the tests of its clause in a fork of this process, which has
imported everything and run nothing. One that survives runs those of its chapter, to
say whether another clause finds it.

It ends with 1 if a mutant survived, or was killed by other clauses only, or a clause
has no mutant. A mutant is blocked if this machine lacks what its tests need: it is
listed as such, and with the table of another machine (`--elsewhere`) it has to have
been killed there.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from rich.console import Console
from rich.table import Table as Drawn

import conformance.meta.mutants
from conformance import collecting, gpus, isolated, lines, results, spec
from conformance.imports import keep_cuda_out
from conformance.meta import kill_table
from conformance.meta.kill_options import parser, wanted_by
from conformance.meta.kill_table import (
    BLOCKED,
    KILLED,
    MISPLACED,
    SURVIVED,
    BrokenTable,
    Verdict,
)
from conformance.meta.mutants._make import Mutant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import ModuleType

MUTANTS = conformance.meta.mutants
# Outcomes that find a mutant out. An `error` may be the mutant's own clumsiness.
KILLS = ("fail", "crash", "timeout")
# So says unittest.mock of a name that the reference no longer has.
_CLUMSY = "does not have the attribute"


def mutants() -> dict[str, Mutant]:
    """Every mutant by its import path, `conformance.meta.mutants.cap:CAP_01`."""
    found: dict[str, Mutant] = {}
    for entry in pkgutil.iter_modules(MUTANTS.__path__):
        module = importlib.import_module(f"{MUTANTS.__name__}.{entry.name}")
        found |= mutants_in(module)
    return found


def mutants_in(module: ModuleType) -> dict[str, Mutant]:
    """Every mutant of one module by its import path.

    Raises:
        ValueError: One is not named for its clause, as `aoti-conformance clauses`
            looks for it.
    """
    found = {
        name: value for name, value in vars(module).items() if isinstance(value, Mutant)
    }
    for name, value in found.items():
        if name[:6] != value.clause.replace("-", "_"):
            raise ValueError(f"{module.__name__}: {name} breaks {value.clause}")
    return {f"{module.__name__}:{name}": value for name, value in found.items()}


def unguarded(found: dict[str, Mutant]) -> list[str]:
    """List the clauses that no mutant breaks."""
    broken = {entry.clause for entry in found.values()}
    return [name for name in spec.catalogue() if name not in broken]


def hunt(path: str, clause: str, cache: str, device: str = "cpu") -> Verdict:
    """Run the tests of `clause` on the mutant at `path`, in a child."""
    began = time.monotonic()
    found = _judged(path, clause, [clause], cache, device)
    if found.word == SURVIVED:
        others = [name for name in spec.catalogue() if name[:3] == clause[:3]]
        others.remove(clause)
        other = _judged(path, clause, others, cache, device) if others else found
        if other.word == KILLED:
            found = replace(other, word=MISPLACED)
    return replace(found, seconds=round(time.monotonic() - began, 1))


def _judged(
    path: str, clause: str, asked: Sequence[str], cache: str, device: str
) -> Verdict:
    """Say what the tests of the clauses `asked` make of a mutant of `clause`."""
    name = path.rpartition(":")[2]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "results.jsonl"
        options = _arguments(path, asked, cache, device, report)

        def run() -> int:
            with (Path(folder) / "output").open("w") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                return int(pytest.main(options))

        ending = isolated.run_forked(run, deadline_s=1200)
        try:
            ran = results.read(report).results
        except (OSError, lines.BrokenResults):
            output = (Path(folder) / "output").read_text(errors="replace")
            return Verdict(name, clause, SURVIVED, _complaint(output) or ending.kind)
    killers = [
        result
        for result in ran
        if result.outcome in KILLS and _CLUMSY not in result.message
    ]
    if killers:
        killer = killers[0]
        own = "" if killer.clause == clause else f"{killer.clause} "
        return Verdict(name, clause, KILLED, f"{own}{killer.id.rpartition('::')[2]}")
    # A test that could not run here might have killed it.
    undecided = any(result.outcome == "blocked" for result in ran)
    return Verdict(name, clause, BLOCKED if undecided else SURVIVED, _told(ran))


def _complaint(output: str) -> str:
    """Find the line in which pytest says why it ran nothing."""
    lines = [line for line in output.strip().splitlines() if line]
    said = [line for line in lines if line.startswith("ERROR")]
    return (said or lines or [""])[-1]


def _told(ran: list[results.Result]) -> str:
    outcomes = sorted({result.outcome for result in ran})
    messages = [result.message for result in ran if result.message]
    why = f": {messages[0].splitlines()[0]}" if messages else ""
    return f"{', '.join(outcomes) or 'no test ran'}{why}"


def _arguments(
    path: str, clauses: Iterable[str], cache: str, device: str, report: Path
) -> list[str]:
    return [
        "-q",
        *("-p", "no:cacheprovider"),
        *("-p", "no:logging"),
        *("-x", "--tb=no"),
        # This process may hold modules that other packages register as plugins.
        *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
        *(() if _installed() else ("-p", "conformance.plugin")),
        f"--rootdir={report.parent}",
        f"--aoti-impl={path}",
        *(f"--aoti-clause={clause}" for clause in clauses),
        f"--aoti-cache={cache}",
        f"--aoti-device={device}",
        f"--aoti-report={report}",
        *_modules(clauses),
    ]


def _modules(clauses: Iterable[str]) -> list[str]:
    """Give the files that name a clause: to import them all takes seconds a mutant."""
    quoted = [f'"{clause}"' for clause in clauses]
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in sorted(collecting.CLAUSES.glob("test_*.py"))
    }
    found = [str(p) for p, text in texts.items() if any(q in text for q in quoted)]
    return found or [str(collecting.CLAUSES)]


def _installed() -> bool:
    from importlib.metadata import entry_points

    names = {point.name for point in entry_points(group="pytest11")}
    return "aoti_conformance" in names


def main(arguments: list[str] | None = None) -> int:
    """Print the kill table; 0 if every mutant died and every clause has one."""
    options = parser().parse_args(arguments)
    isolated.prepare_environment()
    keep_cuda_out()
    found = mutants()
    try:
        elsewhere = [kill_table.read_of_today(path) for path in options.elsewhere]
        wanted = wanted_by(found, options)
    except BrokenTable as error:
        print(error, file=sys.stderr)
        return 4
    names = {path.rpartition(":")[2] for path in found}
    unknown = [name for name in options.mutants if name not in names]
    if unknown or not wanted:
        told = f"is named {' or '.join(unknown)}" if unknown else "is left to hunt"
        print(f"no mutant {told}", file=sys.stderr)
        return 4
    writer = None
    if options.write:
        try:
            writer = kill_table.Writer(
                options.write,
                options.device,
                len(wanted),
                amend=names if options.mutants else None,
            )
        except BrokenTable as error:
            print(error, file=sys.stderr)
            return 4
        except OSError as error:
            print(
                f"--write={options.write}: cannot be written: {error}", file=sys.stderr
            )
            return 4
    isolated.warm_up(Path(options.cache))
    verdicts = []
    with shared(options.device, options.j), ThreadPoolExecutor(options.j) as pool:
        jobs = [
            pool.submit(hunt, p, m.clause, options.cache, options.device)
            for p, m in wanted.items()
        ]
        for job in jobs:
            verdicts.append(job.result())
            if writer:
                writer.add(verdicts[-1])
            with contextlib.suppress(BrokenPipeError):
                _tell(verdicts[-1])
    whole = len(wanted) == len(found)
    missing = unguarded(found) if whole else []
    there = kill_table.merged(elsewhere)
    shown = [_decided(verdict, there) for verdict in verdicts]
    _print(shown, missing)
    undecided = elsewhere and any(verdict.word == BLOCKED for verdict in shown)
    return int(bool(missing or undecided) or any(verdict.bad for verdict in shown))


@contextlib.contextmanager
def shared(device: str, workers: int) -> Iterator[None]:
    """Let hunts agree on who uses a GPU: some tests measure what the whole of it holds.

    The first lock is that of the device's own GPU.
    """
    if not device.startswith("cuda"):
        yield
        return
    own = int(device.partition(":")[2] or 0)
    numbers = sorted(range(max(len(gpus.visible()), own + 1)), key=lambda n: n != own)
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ):
        locks = [Path(folder, f"gpu-{number}.lock") for number in numbers]
        gpus.share(among=workers, workers=workers, locks=locks)
        yield


def _decided(verdict: Verdict, there: Mapping[str, tuple[Verdict, str]]) -> Verdict:
    """Put what another machine found in the place of what this one cannot decide."""
    other, machine = there.get(verdict.mutant, (verdict, ""))
    same = other.clause == verdict.clause
    if verdict.word != BLOCKED or other.word == BLOCKED or not same:
        return verdict
    return replace(other, by=f"{other.by} (on {machine})")


def _tell(verdict: Verdict) -> None:
    print(
        f"{verdict.word:<9} {verdict.mutant}  {verdict.by}", file=sys.stderr, flush=True
    )


def _print(verdicts: list[Verdict], missing: list[str]) -> None:
    table = Drawn("mutant", "clause", "verdict", "by", "seconds", title="kill table")
    for verdict in sorted(verdicts, key=lambda v: (v.word == KILLED, v.mutant)):
        row = verdict.mutant, verdict.clause, verdict.word, verdict.by
        table.add_row(*row, f"{verdict.seconds:.1f}")
    console = Console(width=140)
    console.print(table)
    words = [verdict.word for verdict in verdicts]
    survivors = f"{words.count(SURVIVED)} survivors"
    misplaced = f"{words.count(MISPLACED)} killed by other clauses only"
    blocked = f"{words.count(BLOCKED)} blocked (undecided here and elsewhere)"
    console.print(f"{len(verdicts)} mutants, {survivors}, {misplaced}, {blocked}")
    for name in missing:
        console.print(f"{name}: no mutant breaks it")


if __name__ == "__main__":
    sys.exit(main())
