"""From the reports of pytest's phases to one outcome per test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from conformance.adapter import Refused, Unsupported
from conformance.spec import Blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conformance.collecting import Asked
    from conformance.deviations import Deviation
    from conformance.isolated import Ending
    from conformance.spec import Clause

OUTCOMES = (
    "pass",
    "fail",
    "error",
    "crash",
    "timeout",
    "xfail",
    "xpass",
    "unsupported",
    "blocked",
)
_DEVIATING = ("fail", "error", "crash", "timeout")

# Category of pytest's summary, letter, word.
WORDS = {
    "pass": ("passed", ".", "PASSED"),
    "fail": ("failed", "F", "FAILED"),
    "error": ("error", "E", "ERROR"),
    "crash": ("failed", "C", "CRASH"),
    "timeout": ("failed", "T", "TIMEOUT"),
    "xfail": ("deviates", "d", "DEVIATES"),
    "xpass": ("failed", "X", "XPASS"),
    "unsupported": ("unsupported", "u", "UNSUPPORTED"),
    "blocked": ("blocked", "b", "BLOCKED"),
}

_MESSAGE_CHARACTERS = 2000


@dataclass(frozen=True)
class Judgement:
    """What became of a test: its outcome, the phase that decided, and why."""

    outcome: str
    phase: str
    message: str


def note_exception(
    report: pytest.TestReport, call: pytest.CallInfo[Any], files: Callable[[], set[str]]
) -> None:
    """Leave on `report` what only the child knows: the exception itself.

    Args:
        report: Of a phase of a test.
        call: The phase.
        files: Names those with the adapter's code.
    """
    if call.excinfo is None:
        return
    came_through = {str(entry.path) for entry in call.excinfo.traceback}
    report.aoti_theirs = bool(came_through & files())  # type: ignore[attr-defined]
    error = call.excinfo.value
    kind = "Unsupported" if isinstance(error, Unsupported) else ""
    kind = "Blocked" if isinstance(error, Blocked) else kind
    name = "Refused" if isinstance(error, Refused) else type(error).__name__
    report.aoti_raised = kind or name  # type: ignore[attr-defined]
    plain = kind or isinstance(error, pytest.skip.Exception)
    told = str(error) if plain else f"{type(error).__name__}: {error}"
    report.aoti_message = told or type(error).__name__  # type: ignore[attr-defined]


def unrun(item: pytest.Item, message: str, *, when: str = "call") -> pytest.TestReport:
    """Make a failed report for a test that has none of its own."""
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome="failed",
        longrepr=message,
        when=when,  # type: ignore[arg-type]
    )
    report.aoti_message = message  # type: ignore[attr-defined]
    return report


def from_ending(
    item: pytest.Item, ending: Ending, captured: tuple[str, str]
) -> pytest.TestReport:
    """Make the report of a test whose child brought none home."""
    when = "setup" if ending.kind == "broken" else "call"
    report = unrun(item, ending.text, when=when)
    report.duration = ending.seconds
    report.aoti_raised = ending.kind  # type: ignore[attr-defined]
    for name, text in zip(("stdout", "stderr"), captured, strict=True):
        if text:
            report.sections.append((f"Captured {name} call", text))
    return report


def judge(
    asked: Asked,
    test: str,
    reports: Sequence[pytest.TestReport],
    deviation: Deviation | None,
) -> tuple[Judgement, pytest.TestReport]:
    """Decide the outcome, and return it with the report that decided.

    The reports are rewritten so that pytest counts as the outcome says.
    """
    decisive = next(
        (
            report
            for report in reports
            if not report.passed or hasattr(report, "wasxfail")
        ),
        next((report for report in reports if report.when == "call"), reports[-1]),
    )
    verdict = _plain(asked.clause, decisive)
    allowed = asked.may_refuse in (True, decisive.when)
    if allowed and getattr(decisive, "aoti_raised", "") == "Refused":
        verdict = Judgement("pass", verdict.phase, verdict.message)
    if deviation is not None and deviation.covers(test):
        if verdict.outcome in _DEVIATING:
            verdict = Judgement(
                "xfail", verdict.phase, f"{deviation.note}: {verdict.message}"
            )
        elif (
            verdict.outcome == "pass" and deviation.tests and deviation.kind != "flaky"
        ):
            message = f"passes, but is a known deviation: {deviation.note}"
            verdict = Judgement("xpass", verdict.phase, message)
    for report in reports:
        _rewrite(report, verdict, decisive)
    message = verdict.message[:_MESSAGE_CHARACTERS]
    return Judgement(verdict.outcome, verdict.phase, message), decisive


def _plain(clause: Clause, report: pytest.TestReport) -> Judgement:
    """Decide as if nothing were known of the implementation."""
    raised = getattr(report, "aoti_raised", "")
    message = getattr(report, "aoti_message", "")
    phase = report.when or "call"
    outcome = "fail"
    if hasattr(report, "wasxfail"):
        message = f"marked xfail, which only --aoti-expected may say: {report.wasxfail}"
    elif report.passed:
        outcome, message = "pass", ""
    elif raised in ("crash", "timeout"):
        outcome = raised
    elif raised == "Blocked":
        outcome = "blocked"
    elif raised == "Unsupported" and not clause.needs:
        outcome = "unsupported"
    elif raised == "Unsupported":
        message = (
            f"declares {', '.join(clause.needs)}, yet raised Unsupported: {message}"
        )
    elif report.skipped:
        message = f"declared means a skip is a failure: {message}"
    elif phase != "call" and not getattr(report, "aoti_theirs", False):
        outcome = "error"  # of a fixture of ours; what a verb raises is the layer's
    return Judgement(outcome, phase, message)


def _rewrite(
    report: pytest.TestReport, verdict: Judgement, decisive: pytest.TestReport
) -> None:
    """Make `report` count as `verdict` says, in pytest's own terms."""
    if verdict.outcome in ("xfail", "unsupported", "blocked"):
        if not report.passed:
            report.outcome = "skipped"
            report.longrepr = (
                str(report.location[0]),
                report.location[1] or 0,
                verdict.message,
            )
            report.aoti_silent = report is not decisive  # type: ignore[attr-defined]
        return
    if verdict.outcome == "pass" and report.failed:
        report.outcome, report.longrepr = "passed", None
    if report is decisive and verdict.outcome != "pass" and not report.failed:
        report.outcome = "failed"
        report.longrepr = verdict.message
        report.__dict__.pop("wasxfail", None)


def decline(report: pytest.TestReport, message: str) -> Judgement:
    """Judge a test that was not run because it needs what is not declared."""
    verdict = Judgement("unsupported", "setup", message)
    _rewrite(report, verdict, report)
    return verdict
