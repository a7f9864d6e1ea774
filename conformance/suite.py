"""One session of the suite: its adapter, its plan, its results."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import checkpoint, collecting, deviations, isolated, judging, spec
from conformance.child import run_isolated
from conformance.environment import describe, header, id_of
from conformance.gpus import Pool, held_for, mark, visible, wants_alone
from conformance.report_file import ReportFile
from conformance.results import Result, Run, footer
from conformance.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.adapter import Adapter
    from conformance.deviations import Deviation

SUITE: pytest.StashKey[Suite] = pytest.StashKey()

# Results are published: they name files from the package's own folder on.
_ROOT = f"{Path(__file__).parents[1]}/"


class Suite:
    """What the plugin knows of this session; without clause tests, next to nothing."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.adapter: Adapter | None = None
        self.expected: dict[str, Deviation] = {}
        self.run: Run | None = None
        self.problem = ""
        self._began = time.monotonic()
        self._selection = Selection()
        self._judged: set[str] = set()
        self._stale: list[str] = []
        self._writer: ReportFile | None = None
        self._plans: Path | None = None

    @cached_property
    def gpus(self) -> Pool:
        """The GPUs that workers are given: none, unless clauses run on GPUs."""
        wanted = self.config.getoption("aoti_device") == "cuda" and not self.is_worker
        return Pool(visible() if wanted else [])

    @property
    def is_worker(self) -> bool:
        """Whether this is a worker of xdist, whose controller writes the results."""
        return hasattr(self.config, "workerinput")

    def open_report(self) -> None:
        """Open the results file, if one is wanted here."""
        if not self.is_worker and (path := self.config.getoption("aoti_report")):
            self._writer = ReportFile(path)

    def collect(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Check the clause tests among `items`, and leave those of the profile."""
        try:
            self._check(session, items)
        except (pytest.UsageError, spec.BrokenSpec) as error:
            if not self.is_worker:
                raise pytest.UsageError(str(error)) from error
            # The controller says it once, instead of every worker.
            output = self.config.workeroutput  # type: ignore[attr-defined]
            output["aoti_problem"] = str(error)
            items.clear()
            return
        keep, leave = collecting.chosen(
            items,
            self.config.getoption("aoti_profile"),
            self.config.getoption("aoti_clause"),
        )
        if leave:
            self.config.hook.pytest_deselected(items=leave)
        # Else the other workers would wait for each of those that want a GPU alone.
        items[:] = sorted(keep, key=wants_alone)

    def _check(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        ours = [
            (item, collecting.asked_by(item).clause)
            for item in items
            if collecting.is_ours(item)
        ]
        self.adapter = collecting.adapter(self.config.getoption("aoti_impl"))
        self._check_checkpoint()
        collecting.check_python()
        collecting.check_device(self.config.getoption("aoti_device"))
        collecting.check_folders(self.config.getoption("aoti_cache"))
        option, name = self.config.getoption("aoti_expected"), self.adapter.info.name
        self.expected = collecting.expectations(option, name, describe())
        if collecting.is_whole(session):
            collecting.check_whole(
                [(item.name, clause) for item, clause in ours], self.expected
            )
        for item, _ in ours:
            collecting.take_over(item)
            mark(item)
        self._selection.collect(clause.id for _, clause in ours)

    def _check_checkpoint(self) -> None:
        given = self.config.getoption("aoti_checkpoint")
        try:
            if given is not None:
                checkpoint.check(given)
        except checkpoint.BadCheckpoint as error:
            raise pytest.UsageError(f"--aoti-checkpoint: {error}") from error

    def note_selection(self, items: Sequence[pytest.Item]) -> None:
        """Keep what was asked for, before it is split into groups."""
        if self.adapter is not None:
            named = any("::" in argument for argument in self.config.args)
            self._selection.ask(_clauses_of(items), by_name=named)

    def plan(self, items: Sequence[pytest.Item]) -> None:
        """Fix the plan and write it down; from here on tests may run."""
        if self.adapter is None:
            return
        tests = _clauses_of(items)
        self._judged = self._selection.judged(tests.values())
        clauses = {
            entry.id: {"title": entry.title, "profile": list(entry.profile)}
            for entry in spec.catalogue().values()
        }
        told = header(self.adapter, self.config)
        told["shard"] |= self._selection.whole
        told["cut"] = self._selection.cut
        told["expected"] = sorted(deviations.strict(self.expected))
        told["expectations"] = deviations.digest(self.expected)
        self.run = Run(told, clauses, tests)
        isolated.warm_up(Path(self.config.getoption("aoti_cache")))
        if self.is_worker:
            given = self.config.workerinput  # type: ignore[attr-defined]
            path = Path(given["aoti_plans"], f"{given['workerid']}.json")
            content = {
                "header": self.run.header,
                "clauses": clauses,
                "plan": tests,
                "judged": sorted(self._judged),
            }
            path.write_text(json.dumps(content), encoding="utf-8")
        elif self._writer:
            self._writer.begin(self.run)

    def plans_folder(self) -> Path:
        """Where xdist's workers leave their plans."""
        if self._plans is None:
            self._plans = Path(tempfile.mkdtemp(prefix="aoti-conformance-"))
        return self._plans

    def adopt_plan(self, worker: str) -> None:
        """Take over the plan that `worker` left, unless there is one."""
        path = self.plans_folder() / f"{worker}.json"
        if self.run is not None or not path.exists():
            return
        content = json.loads(path.read_text(encoding="utf-8"))
        self._judged = set(content.pop("judged"))
        self.run = Run(**content)
        # Reading the file again is cheaper than sending it, and imports nothing.
        name = self.run.header["implementation"]["name"]
        self.expected = collecting.expectations(
            self.config.getoption("aoti_expected"),
            name,
            self.run.header["environment"],
        )
        if self._writer:
            self._writer.begin(self.run)
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter:
            reporter.ensure_newline()
            reporter.write_line("\n".join(self.greeting()))

    def greeting(self) -> list[str]:
        """One line that says who is tested."""
        if self.run is None:
            return []
        declared = (
            ", ".join(self.run.header["implementation"]["capabilities"]) or "core only"
        )
        versions = self.run.header["environment"]["versions"]
        told = (
            f"aoti-conformance: {self.run.name} [{declared}], "
            f"torch {versions.get('torch', 'none')}, seed {self.run.header['seed']}"
        )
        return [told]

    def run_test(self, item: pytest.Item) -> list[pytest.TestReport]:
        """Run one clause test and judge it; the reports are pytest's to log."""
        asked = collecting.asked_by(item)
        assert self.adapter is not None  # noqa: S101  # tests run after the collection
        absent = [
            need for need in asked.clause.needs if need not in self.adapter.capabilities
        ]
        peak_rss_mib = seconds = 0.0
        if absent:
            who = self.adapter.info.name
            told = f"needs {', '.join(absent)}, which {who} does not declare"
            reports = [judging.unrun(item, told)]
            verdict, decisive = judging.decline(reports[0], told), reports[0]
        else:
            seed = self.config.getoption("aoti_seed")
            with held_for(item):
                reports, ending = run_isolated(
                    item, deadline_s=asked.deadline_s, seed=seed
                )
            seconds, peak_rss_mib = ending.seconds, ending.peak_rss_mib
            deviation = self.expected.get(asked.clause.id)
            verdict, decisive = judging.judge(asked, item.name, reports, deviation)
        decisive.aoti = {  # type: ignore[attr-defined]
            "id": id_of(item),
            "clause": asked.clause.id,
            "outcome": verdict.outcome,
            "phase": verdict.phase,
            "seconds": round(seconds, 3),
            "message": verdict.message.replace(_ROOT, ""),
            "command": self._command(item),
            "peak_rss_mib": round(peak_rss_mib, 1),
        }
        return reports

    def _command(self, item: pytest.Item) -> str:
        parts = ["python", "-m", "pytest", "--pyargs", id_of(item)]
        for name in ("impl", "device", "seed", "expected", "checkpoint"):
            value = self.config.getoption(f"aoti_{name}")
            if value not in (None, "cpu"):
                parts.append(f"--aoti-{name}={value}")
        return shlex.join(parts)

    # A hook, on an object that is registered: a report does not know its session.
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a result, and write it down; under xdist only the controller does."""
        told = getattr(report, "aoti", None)
        if told is None or self.is_worker or self.run is None:
            return
        result = Result(**told)
        self.run.results.append(result)
        if self._writer:
            self._writer.result(result)

    def finish(self, session: pytest.Session) -> None:
        """Write the footer, and set the exit code where pytest's own would be wrong."""
        if self._plans:
            shutil.rmtree(self._plans, ignore_errors=True)
        if self.is_worker or self.run is None:
            if self._writer:
                self._writer.close()
            self._end_by_problem(session)
            return
        held = deviations.strict(self.expected)
        self._stale = deviations.stale(held, self.run.outcomes(self._judged))
        if self._stale and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        seconds = time.monotonic() - self._began
        self.run.footer = footer(self.run, self._stale, seconds)
        if self._writer:
            self._writer.end(self.run.footer)
        self._end_by_problem(session)

    def _end_by_problem(self, session: pytest.Session) -> None:
        if self._writer:
            self.problem = self.problem or self._writer.problem
        if self.problem:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def summarise(self, reporter: pytest.TerminalReporter) -> None:
        """Print the board, and what else must be said at the end."""
        if self.problem:
            reporter.write_line(f"ERROR: {self.problem}", red=True)
        if self.run is None or self.is_worker or not self._judged:
            return  # what pytest says of a run that was not to be is all there is
        from conformance import board  # rich is not for foreign sessions

        reporter.section("conformance")
        reporter.write_line(board.terminal([self.run]))
        for name in self._stale:
            told = f"{name} deviates no more; remove its entry"
            reporter.write_line(f"ERROR: {told}: {self.expected[name].note}", red=True)
        if self._writer and not self._writer.problem:
            reporter.write_line(f"results: {self._writer.path}")


def _clauses_of(items: Sequence[pytest.Item]) -> dict[str, str]:
    """The clause of each clause test among `items`, by the test's id."""
    return {
        id_of(item): collecting.asked_by(item).clause.id
        for item in items
        if collecting.is_ours(item)
    }
