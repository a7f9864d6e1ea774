"""Two runs, test by test: what got better, what got worse, what came and went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.results import Run

# How good an outcome is. Between two of the middle, nothing was gained or lost.
_CRASHED, _BROKEN, _UNPROVEN, _HOLDS = range(4)
_GOODNESS = {
    "pass": _HOLDS,
    "xfail": _UNPROVEN,
    "blocked": _UNPROVEN,
    "unsupported": _UNPROVEN,
    "missing": _UNPROVEN,
    "fail": _BROKEN,
    "error": _BROKEN,
    "xpass": _BROKEN,
    "crash": _CRASHED,
    "timeout": _CRASHED,
}
WORSE, BETTER, CHANGED, NEW, GONE = "worse", "better", "changed", "new", "gone"
KINDS = (WORSE, BETTER, CHANGED, NEW, GONE)
ABSENT = "not there"


@dataclass(frozen=True)
class Change:
    """Tests of one clause that took the same way from one run to the other.

    Args:
        kind: One of KINDS.
        clause: Its id.
        old: The outcome then; `not there` if the old run did not plan them.
        new: The outcome now; `not there`, likewise.
        tests: Their names.
        message: What the first of them says now, or said before it was gone.
    """

    kind: str
    clause: str
    old: str
    new: str
    tests: tuple[str, ...]
    message: str


def compare(old: Run, new: Run) -> list[Change]:
    """List what differs, the worse first, then by clause.

    A test got better if it passes now, or fails without taking the process along. It
    got worse if it fell: passes no more, fails where nothing was known, crashes. From
    `fail` to `xfail`, `blocked` or `unsupported` is a change, and no gain.

    A test that is gone is worse if its clause is still there and has none left, or was
    run in part only. A new test is worse if it does not pass and others of its clause
    are gone, which may be what it is called now; or if it breaks a new clause.
    """
    lost = {old.plan[test] for test in old.plan.keys() - new.plan.keys()}
    found: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}
    for test, clause, was, now, message in _pairs(old, new):
        if was != now:
            kind = _kind(old, new, clause, was, now, lost=clause in lost)
            found.setdefault((kind, clause, was, now), []).append((test, message))
    changes = [
        Change(kind, clause, was, now, tuple(t for t, _ in tests), tests[0][1])
        for (kind, clause, was, now), tests in found.items()
    ]
    return sorted(changes, key=lambda c: (KINDS.index(c.kind), c.clause, c.old, c.new))


def _pairs(old: Run, new: Run) -> Iterator[tuple[str, str, str, str, str]]:
    was, now = _outcomes(old), _outcomes(new)
    for test in dict.fromkeys([*new.plan, *old.plan]):
        before, last = was.get(test, (ABSENT, ""))
        after, message = now.get(test, (ABSENT, last))
        clause = new.plan.get(test) or old.plan[test]
        yield test.partition("::")[2], clause, before, after, message


def _outcomes(run: Run) -> dict[str, tuple[str, str]]:
    found = {result.id: (result.outcome, result.message) for result in run.results}
    return {test: found.get(test, ("missing", "")) for test in run.plan}


def fallen(old: Run, new: Run) -> list[str]:
    """List the profiles to which the old run is conformant, and the new is not."""
    now = new.verdicts
    return [
        profile
        for profile, verdict in old.verdicts.items()
        if verdict.verdict == "conformant"
        and profile in now
        and now[profile].verdict != "conformant"
    ]


def _kind(old: Run, new: Run, clause: str, was: str, now: str, *, lost: bool) -> str:
    if was == ABSENT:
        renamed = lost and now != "pass"
        breaks = clause not in old.plan.values() and _GOODNESS[now] <= _BROKEN
        return WORSE if renamed or breaks else NEW
    if now == ABSENT:
        untested = clause in new.clauses and clause not in new.plan.values()
        return WORSE if untested or clause in new.cut else GONE
    before, after = _GOODNESS[was], _GOODNESS[now]
    if after < before:
        return WORSE
    gained = after == _HOLDS or (before, after) == (_CRASHED, _BROKEN)
    return BETTER if gained else CHANGED
