"""The kill table: every mutant must fail the clause that it was made to break.

    python -m conformance.meta.kill [-j N] [--cache DIR] [--profile NAME] [MUTANT ...]

Each mutant runs the tests of its clause in a fork of this process, which has
imported everything and run nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import pkgutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console
from rich.table import Table

import conformance.clauses
import conformance.meta.mutants
from conformance import isolated, results, spec
from conformance.imports import keep_cuda_out
from conformance.meta.mutants._make import Mutant

# Outcomes that find a mutant out. An `error` may be the mutant's own clumsiness.
KILLS = ("fail", "crash", "timeout")
# So says unittest.mock of a name that the reference no longer has.
_CLUMSY = "does not have the attribute"


class Verdict(NamedTuple):
    """What became of a mutant: the test that killed it, or why none did."""

    mutant: str
    clause: str
    killed: bool
    by: str
    seconds: float
    undecided: bool = False  # this machine lacks what its tests need

    @property
    def survived(self) -> bool:
        """Whether its clause has let it pass."""
        return not self.killed and not self.undecided

    @property
    def word(self) -> str:
        """Say it in a word."""
        if self.undecided:
            return "blocked"
        return "killed" if self.killed else "SURVIVED"


def mutants() -> dict[str, Mutant]:
    """Every mutant by its import path, `conformance.meta.mutants.cap:CAP_01`."""
    found: dict[str, Mutant] = {}
    package = conformance.meta.mutants
    for entry in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{entry.name}")
        for name, value in vars(module).items():
            if isinstance(value, Mutant):
                found[f"{module.__name__}:{name}"] = value
    return found


def unguarded(found: dict[str, Mutant]) -> list[str]:
    """List the clauses that no mutant breaks."""
    broken = {entry.clause for entry in found.values()}
    return [name for name in spec.catalogue() if name not in broken]


def hunt(path: str, clause: str, cache: str, device: str = "cpu") -> Verdict:
    """Run the tests of `clause` on the mutant at `path`, in a child."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "results.jsonl"

        def run() -> int:
            with (Path(folder) / "output").open("w") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                return int(pytest.main(_arguments(path, clause, cache, device, report)))

        ending = isolated.run_forked(run, deadline_s=1200)
        name = path.rpartition(":")[2]
        try:
            ran = results.read(report).results
        except (OSError, results.BrokenResults):
            output = (Path(folder) / "output").read_text(errors="replace")
            by = _complaint(output) or ending.kind
            return Verdict(name, clause, killed=False, by=by, seconds=0.0)
    killers = [
        result
        for result in ran
        if result.outcome in KILLS and _CLUMSY not in result.message
    ]
    by = killers[0].id.rpartition("::")[2] if killers else _told(ran)
    seconds = time.monotonic() - began
    undecided = bool(ran) and all(result.outcome == "blocked" for result in ran)
    return Verdict(name, clause, bool(killers), by, seconds, undecided=undecided)


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
    path: str, clause: str, cache: str, device: str, report: Path
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
        f"--aoti-clause={clause}",
        f"--aoti-cache={cache}",
        f"--aoti-device={device}",
        f"--aoti-report={report}",
        str(Path(conformance.clauses.__path__[0])),
    ]


def _installed() -> bool:
    from importlib.metadata import entry_points

    names = {point.name for point in entry_points(group="pytest11")}
    return "aoti_conformance" in names


def main(arguments: list[str] | None = None) -> int:
    """Print the kill table; 0 if every mutant died and every clause has one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-j", type=int, default=2, metavar="N", help="at a time")
    home = Path("~/.cache/aoti-conformance").expanduser()
    parser.add_argument("--cache", default=os.environ.get("AOTI_CACHE", str(home)))
    parser.add_argument("--profile", choices=spec.PROFILES, help="of its clauses only")
    parser.add_argument("--device", default="cpu", help="where modules live")
    parser.add_argument("mutants", nargs="*", help="names; all of them by default")
    options = parser.parse_args(arguments)
    isolated.prepare_environment()
    keep_cuda_out()
    found = mutants()
    profiles = {name: entry.profile for name, entry in spec.catalogue().items()}
    wanted = {
        path: entry
        for path, entry in found.items()
        if (not options.mutants or path.rpartition(":")[2] in options.mutants)
        and (not options.profile or options.profile in profiles[entry.clause])
    }
    if not wanted:
        named = (
            f"is named {' or '.join(options.mutants)}" if options.mutants else "left"
        )
        print(f"no mutant {named}", file=sys.stderr)
        return 4
    isolated.warm_up()
    with ThreadPoolExecutor(options.j) as pool:
        jobs = [
            pool.submit(hunt, p, m.clause, options.cache, options.device)
            for p, m in wanted.items()
        ]
        verdicts = []
        for job in jobs:
            verdicts.append(job.result())
            with contextlib.suppress(BrokenPipeError):
                _tell(verdicts[-1])
    missing = [] if options.mutants else unguarded(found)
    _print(verdicts, missing)
    return int(bool(missing) or any(verdict.survived for verdict in verdicts))


def _tell(verdict: Verdict) -> None:
    print(
        f"{verdict.word:<8} {verdict.mutant}  {verdict.by}", file=sys.stderr, flush=True
    )


def _print(verdicts: list[Verdict], missing: list[str]) -> None:
    table = Table("mutant", "clause", "verdict", "by", "seconds", title="kill table")
    for verdict in sorted(verdicts, key=lambda v: (v.killed, v.mutant)):
        row = verdict.mutant, verdict.clause, verdict.word, verdict.by
        table.add_row(*row, f"{verdict.seconds:.1f}")
    console = Console(width=140)
    console.print(table)
    survivors = sum(verdict.survived for verdict in verdicts)
    undecided = sum(verdict.undecided for verdict in verdicts)
    blocked = f", {undecided} that this machine cannot decide" if undecided else ""
    console.print(f"{len(verdicts)} mutants, {survivors} survivors{blocked}")
    for name in missing:
        console.print(f"{name}: no mutant breaks it")


if __name__ == "__main__":
    sys.exit(main())
