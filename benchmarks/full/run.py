"""Run the rows of a model: compile first, at once if asked, then time each alone."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from benchmarks import record
from benchmarks.full import jobs, targets
from benchmarks.full.jobs import Job
from benchmarks.full.models import MODELS
from benchmarks.full.rows import COMPILING, WAYS
from conformance import device as devices
from conformance.environment import describe

if TYPE_CHECKING:
    from collections.abc import Callable

_MEASURE_S = 30.0  # kept back for each row that is compiled and not yet measured
_FINE = ("ok", "unavailable")


class Settings(NamedTuple):
    """What was asked for."""

    model: str
    tiny: bool
    device: str
    rounds: int
    parallel: int
    row_limit_s: float
    limit_s: float
    work: Path
    output: Path | None


class Bench:
    """The rows of one run, written down whenever one of them gets on."""

    def __init__(self, settings: Settings, figures: dict[str, Any]) -> None:
        self.settings = settings
        self.figures = figures
        self._end = time.monotonic() + settings.limit_s

    def run(self, names: list[str]) -> None:
        """Run the rows of these names."""
        self.figures["base"] = self._job("base", "base", self._left())
        self._note("base", self.figures["base"])
        compiled = {name: {"outcome": "ok"} for name in names if name not in COMPILING}
        with ThreadPoolExecutor(self.settings.parallel) as pool:
            asked = {
                pool.submit(self._prepared, name, names): name
                for name in names
                if name in COMPILING
            }
            for done in as_completed(asked):
                name = asked[done]
                compiled[name] = done.result()
                self._enter(name, prepare=compiled[name])
        for name in names:
            if compiled[name]["outcome"] == "ok":
                measured = self._job(name, "measure", self._left())
                self._enter(name, measure=measured)

    def _prepared(self, name: str, names: list[str]) -> dict[str, Any]:
        if reason := WAYS[name].lacks(self.settings.device):
            return {"outcome": "unavailable", "message": reason}
        kept = _MEASURE_S * len(names) if not self.settings.tiny else 0
        return self._job(name, "prepare", self._left() - kept)

    def _job(self, row: str, phase: str, left_s: float) -> dict[str, Any]:
        """Run one process, unless a run before has left its answer."""
        settings = self.settings
        job = Job(
            phase=phase,
            row=row,
            model=settings.model,
            tiny=settings.tiny,
            device=settings.device,
            rounds=settings.rounds,
            work=str(settings.work),
        )
        if phase != "measure" and (found := _kept(job)):
            return found
        if left_s <= 0:
            return {"outcome": "not run", "message": "no time was left"}
        if phase == "prepare":
            for folder in ("package", *(() if settings.tiny else (jobs.CACHE,))):
                shutil.rmtree(job.folder / folder, ignore_errors=True)
        return jobs.run(job, limit_s=min(settings.row_limit_s, left_s))

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _enter(self, name: str, **phases: dict[str, Any]) -> None:
        """Enter what a phase of a row has come to, and write all down."""
        rows = self.figures["rows"]
        before = rows.get(name, {}) if "measure" in phases else {}
        row = entered(before, phases)
        self.figures["rows"] = {
            n: row if n == name else rows[n] for n in WAYS if n == name or n in rows
        }
        ((phase, found),) = phases.items()
        self._note(f"{name} {phase}", found)

    def _note(self, what: str, found: dict[str, Any]) -> None:
        seconds = f"{found['wall_s']:6.1f} s" if "wall_s" in found else ""
        click.echo(f"{what:<26} {found['outcome']:<12}{seconds}")
        if message := found.get("message"):
            click.echo("    " + message.replace("\n", "\n    "))
        self.write()

    def write(self) -> None:
        """Write the figures down, if anybody wants them."""
        if self.settings.output is not None:
            record.write(self.settings.output, self.settings.model, self.figures)


def entered(row: dict[str, Any], phases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Put phases into a row, whose outcome is `ok` when it has been measured.

    >>> entered({}, {"prepare": {"outcome": "ok", "total_s": 2.5}})
    {'outcome': 'not run', 'message': 'not measured', 'prepare': {'total_s': 2.5}}
    >>> entered({}, {"prepare": {"outcome": "crash", "message": "died of SIGSEGV"}})
    {'outcome': 'crash', 'message': 'prepare: died of SIGSEGV'}
    """
    found = {"outcome": "not run", "message": "not measured", **row}
    for phase, answer in phases.items():
        rest = {n: v for n, v in answer.items() if n not in ("outcome", "message")}
        if answer["outcome"] != "ok":
            found["outcome"] = answer["outcome"]
            found["message"] = f"{phase}: {answer['message']}"
            found.pop(phase, None)  # of a run before
            continue
        found[phase] = rest
        if phase == "measure":
            found["outcome"] = "ok"
            found.pop("message", None)
    return found


def _kept(job: Job) -> dict[str, Any] | None:
    path = job.folder / f"{job.phase}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found if found["outcome"] == "ok" else None


def _title(name: str, *, tiny: bool) -> str:
    title = MODELS[name].title
    return f"{title.split(',')[0]}, tiny" if tiny else title


def _before(output: Path | None, name: str, *, tiny: bool) -> dict[str, Any]:
    """Read the rows of a file that more are to be added to."""
    if output is None or not output.exists():
        return {}
    found = json.loads(output.read_text(encoding="utf-8"))
    here, there = describe(), found["environment"]
    both = here["versions"].keys() & there["versions"].keys()  # more may have come
    same = all(here["versions"][n] == there["versions"][n] for n in both)
    same = same and all(here[what] == there[what] for what in ("gpus", "device"))
    if not same or (found["benchmark"], found["figures"]["tiny"]) != (name, tiny):
        message = f"{output} is of another machine or model, or of other versions"
        raise click.ClickException(message)
    rows: dict[str, Any] = found["figures"]["rows"]
    return rows


def command(name: str) -> Callable[..., None]:
    """Make the program of one model."""

    @click.command(help=f"Measure {MODELS[name].title}, row by row.")
    @click.option("--tiny", is_flag=True, help="The same on a tiny one, on the CPU.")
    @click.option("--rows", help=f"Some of {','.join(WAYS)}.")
    @click.option("--output", type=click.Path(path_type=Path, dir_okay=False))
    @click.option("--add", is_flag=True, help="Keep the other rows of OUTPUT.")
    @click.option("--device", help="cuda, or cpu with --tiny, unless told.")
    @click.option("--rounds", default=10, show_default=True, type=click.IntRange(2))
    @click.option(
        "--parallel-compiles",
        type=click.IntRange(1),
        help="How many compile at once: 1, or 2 with --tiny, unless told.",
    )
    @click.option("--row-limit", default=420.0, help="Seconds for a process.")
    @click.option("--limit", default=3600.0, help="Seconds for everything.")
    @click.option(
        "--work",
        type=click.Path(path_type=Path, file_okay=False),
        help="Keep packages here, and take those that are there.",
    )
    def main(
        *,
        tiny: bool,
        rows: str | None,
        output: Path | None,
        add: bool,
        device: str | None,
        rounds: int,
        parallel_compiles: int | None,
        row_limit: float,
        limit: float,
        work: Path | None,
    ) -> None:
        names = rows.split(",") if rows else list(WAYS)
        if unknown := sorted(set(names) - WAYS.keys()):
            message = f"no row {', '.join(unknown)}; there are {', '.join(WAYS)}"
            raise click.BadParameter(message)
        device = device or ("cpu" if tiny else "cuda")
        devices.choose(device)
        at_once = parallel_compiles or (2 if tiny else 1)
        with tempfile.TemporaryDirectory() as temporary:
            folder = (work or Path(temporary)) / f"{name}{'-tiny' if tiny else ''}"
            settings = Settings(
                model=name,
                tiny=tiny,
                device=device,
                rounds=rounds,
                parallel=at_once,
                row_limit_s=row_limit,
                limit_s=limit,
                work=folder.resolve(),
                output=output,
            )
            figures = {
                "title": _title(name, tiny=tiny),
                "tiny": tiny,
                "rounds": rounds,
                "parallel_compiles": at_once,
                "environment_variables": jobs.ALLOCATOR,
                "rows": _before(output, name, tiny=tiny) if add else {},
            }
            bench = Bench(settings, figures)
            bench.run(names)
            sys.exit(_concluded(bench, names))

    made: Callable[..., None] = main
    return made


def _concluded(bench: Bench, names: list[str]) -> bool:
    """Print how fast rows were and, of a full-size model, how the targets stand."""
    rows = bench.figures["rows"]
    for name, row in rows.items():
        if row["outcome"] == "ok":
            measured = row["measure"]
            ms, eager = measured["ms"]["median"], measured["eager_ms"]["median"]
            times = f"{ms:9.2f} ms  eager {eager:9.2f} ms"
            click.echo(f"{name:<18} {times}  {targets.speed(row):5.2f} times")
    failed = any(rows[name]["outcome"] not in _FINE for name in names)
    if bench.settings.tiny:
        return failed
    verdicts = targets.judge(rows)
    for verdict in verdicts:
        click.echo(verdict.line())
    bench.figures["targets"] = [verdict._asdict() for verdict in verdicts]
    bench.write()
    return failed or not all(verdict.good for verdict in verdicts)
