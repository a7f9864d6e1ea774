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
from conformance.environment import header, id_of
from conformance.gpus import Pool, markers_of, visible
from conformance.results import Result, Run, Writer

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
        self._collected: dict[str, int] = {}
        self._judged: set[str] = set()
        self._stale: list[Deviation] = []
        self._writer: Writer | None = None
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
        path = self.config.getoption("aoti_report")
        if not path or self.is_worker:
            return
        try:
            self._writer = Writer(Path(path))
        except OSError as error:
            raise pytest.UsageError(
                f"--aoti-report={path}: cannot be written ({error})"
            ) from error

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
            items[:] = keep

    def _check(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        ours = [
            (item, collecting.asked_by(item).clause)
            for item in items
            if collecting.is_ours(item)
        ]
        self.adapter = collecting.adapter(self.config.getoption("aoti_impl"))
        self._check_checkpoint()
        collecting.check_device(self.config.getoption("aoti_device"))
        option = self.config.getoption("aoti_expected")
        self.expected = collecting.expectations(option, self.adapter.info.name)
        if collecting.is_whole(session):
            collecting.check_whole(
                [(item.name, clause) for item, clause in ours], self.expected
            )
        for item, clause in ours:
            # What libraries warn of is no verdict on the layer above them.
            item.add_marker(pytest.mark.filterwarnings("default"))
            for name in markers_of(getattr(item, "fixturenames", ())):
                item.add_marker(name)
            self._collected[clause.id] = self._collected.get(clause.id, 0) + 1

    def _check_checkpoint(self) -> None:
        given = self.config.getoption("aoti_checkpoint")
        if given is None:
            return
        try:
            checkpoint.check(given)
        except checkpoint.BadCheckpoint as error:
            raise pytest.UsageError(f"--aoti-checkpoint: {error}") from error

    def plan(self, items: Sequence[pytest.Item]) -> None:
        """Fix the plan and write it down; from here on tests may run."""
        if self.adapter is None:
            return
        tests = {
            id_of(item): collecting.asked_by(item).clause.id
            for item in items
            if collecting.is_ours(item)
        }
        planned = list(tests.values())
        if not any("::" in argument for argument in self.config.args):
            self._judged = {
                name
                for name, number in self._collected.items()
                if planned.count(name) == number
            }
        clauses = {
            entry.id: {"title": entry.title, "profile": list(entry.profile)}
            for entry in spec.catalogue().values()
        }
        self.run = Run(header(self.adapter, self.config), clauses, tests)
        isolated.warm_up()
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
            self.config.getoption("aoti_expected"), name
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
            reports, ending = run_isolated(item, deadline_s=asked.deadline_s, seed=seed)
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
        if self.problem:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if self.is_worker or self.run is None:
            if self._writer:
                self._writer.close()
            return
        missing = {self.run.plan[test] for test in self.run.missing}
        outcomes: dict[str, list[str]] = {}
        for result in self.run.results:
            outcomes.setdefault(result.clause, []).append(result.outcome)
        ran = {name: outcomes.get(name, []) for name in self._judged - missing}
        self._stale = deviations.stale(self.expected, ran)
        if self._stale and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.run.footer = {
            "counts": self.run.counts,
            "missing": len(self.run.missing),
            "verdicts": {
                name: vars(entry) for name, entry in self.run.verdicts.items()
            },
            "stale": [entry.clause for entry in self._stale],
            "seconds": round(time.monotonic() - self._began, 3),
            "peak_rss_mib": max(
                (result.peak_rss_mib for result in self.run.results), default=0.0
            ),
        }
        if self._writer:
            self._writer.end(self.run.footer)

    def summarise(self, reporter: pytest.TerminalReporter) -> None:
        """Print the board, and what else must be said at the end."""
        if self.problem:
            reporter.write_line(f"ERROR: {self.problem}", red=True)
        if self.run is None or self.is_worker:
            return
        from conformance import board  # rich is not for foreign sessions

        reporter.section("conformance")
        reporter.write_line(board.terminal([self.run]))
        for entry in self._stale:
            told = f"{entry.clause} deviates no more; remove its entry: {entry.note}"
            reporter.write_line(f"ERROR: {told}", red=True)
        if self._writer:
            reporter.write_line(f"results: {self._writer.path}")
