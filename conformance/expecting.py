"""Write a file of known deviations from results: `aoti-conformance expect --update`.

What people wrote is kept: reasons, order of keys, comments. What a run says of it is
changed: entries that are gone leave, entries that are new come, and say of themselves
that nobody has reviewed them, which no run accepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.items import AoT

from conformance import deviations
from conformance.conditions import apart
from conformance.deviations import UNREVIEWED, Deviation
from conformance.expecting_comments import Comments

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from conformance.results import Run

DEVIATING = ("fail", "error", "crash", "timeout", "xfail")
_MESSAGE_CHARACTERS = 160
_HEAD = "# Known deviations of {name}, by clause. An entry that passes fails the run.\n"


class Update:
    """A file of deviations that is brought up to date with a run.

    Args:
        path: The file; it need not be there.
        clauses: The ids that there are.

    Raises:
        BadDeviations: The file cannot be used.
    """

    def __init__(self, path: Path, clauses: Collection[str]) -> None:
        self.path = path
        self._clauses = clauses
        self._document = tomlkit.document()
        self.said: list[str] = []
        if path.exists():
            text = deviations.text_of(path)
            deviations.parse(path, text, clauses)
            self._document = tomlkit.parse(text)
        self._comments = Comments(self._document)

    def take(self, run: Run) -> None:
        """Bring the entries up to date with `run`; `said` tells what was done.

        An entry whose condition does not hold where `run` was is left alone, and so
        is one of which `run` did not ask every test.
        """
        for clause in sorted({*run.plan.values(), *self._document}):
            if clause in self._clauses:
                self._take_clause(run, clause, whole=clause not in run.cut)

    def text(self, name: str) -> str:
        """The file, its entries by clause; `name` is whose it is, for a new file."""
        parts = [self._comments.head or _HEAD.format(name=name).strip()]
        for clause in sorted(self._document):
            for table in self._tables(clause):
                part = tomlkit.document()
                part[clause] = _alone(table) if self._is_list(clause) else table
                written = part.as_string().strip()
                parts.append(self._comments.above(table) + written)
        return "\n\n".join([*parts, *self._comments.foot]) + "\n"

    def _take_clause(self, run: Run, clause: str, *, whole: bool) -> None:
        found = {
            _name(result.id): result
            for result in run.results
            if result.clause == clause
        }
        whole = whole and not any(run.plan[test] == clause for test in run.missing)
        tables = self._tables(clause)
        held = [
            (table, entry)
            for table, entry in zip(tables, self._entries(clause), strict=True)
            if entry.when.holds(run.header["environment"])
        ]
        outcomes = {test: result.outcome for test, result in found.items()}
        deviating = [test for test, word in outcomes.items() if word in DEVIATING]
        if not held:
            if deviating:
                message = found[deviating[0]].message
                every = whole and len(deviating) == len(outcomes)
                self._add(run, clause, [] if every else deviating, message)
            return
        table, entry = held[0]
        joined = [test for test in deviating if not entry.covers(test)]
        if entry.tests:
            passing = [t for t in entry.tests if outcomes.get(t) in ("pass", "xpass")]
            gone = [] if entry.kind == "flaky" else passing
            self._retest(table, entry, gone, joined)
            if joined and entry.reviewed:
                message = _first_line(found[joined[0]].message)
                came = f"{', '.join(joined)} came ({message})"
                table["reason"] = f"{UNREVIEWED}, {came}: {entry.reason}"
        elif entry.kind != "flaky" and whole and set(outcomes.values()) == {"pass"}:
            self._drop(clause, table, "deviates no more")

    def _is_list(self, clause: str) -> bool:
        return isinstance(self._document[clause], (AoT, list))

    def _tables(self, clause: str) -> list[Any]:
        item = self._document.get(clause, [])
        return list(item) if isinstance(item, (AoT, list)) else [item]

    def _entries(self, clause: str) -> list[Deviation]:
        if clause not in self._document:
            return []
        part = tomlkit.dumps({clause: self._document[clause].unwrap()})
        return deviations.parse(self.path, part, self._clauses)

    def _retest(
        self, table: Any, entry: Deviation, gone: list[str], joined: list[str]
    ) -> None:
        left = [test for test in entry.tests if test not in gone] + joined
        if not left:
            self._drop(entry.clause, table, "deviates no more")
        elif gone or joined:
            table["tests"] = _list(left)
            told = [f"{test} passes" for test in gone]
            told += [f"{test} deviates, too" for test in joined]
            self.said.append(f"changed {entry.clause}: {', '.join(told)}")

    def _add(self, run: Run, clause: str, tests: list[str], message: str) -> None:
        table = tomlkit.table()
        table["kind"] = "bug"
        table["reason"] = f"{UNREVIEWED}: {_first_line(message)}"
        table["see"] = UNREVIEWED
        if tests:
            table["tests"] = _list(tests)
        others = [entry.when for entry in self._entries(clause)]
        if others:
            table["when"] = _inline(apart(others, run.header["environment"]))
        there = self._document.get(clause)
        if there is None:
            self._document[clause] = table
        else:
            both = tomlkit.aot()
            for entry in [*self._tables(clause), table]:
                both.append(entry)
            self._document.remove(clause)
            self._document[clause] = both
        which = f" ({', '.join(tests)})" if tests else ""
        self.said.append(f"added {clause}{which}: {_first_line(message)}")

    def _drop(self, clause: str, table: Any, why: str) -> None:
        others = [entry for entry in self._tables(clause) if entry is not table]
        self._document.remove(clause)
        if others:
            left = tomlkit.aot()
            for entry in others:
                left.append(entry)
            self._document[clause] = left
        self.said.append(f"dropped {clause}: {why}")


def _alone(table: Any) -> Any:
    found = tomlkit.aot()
    found.append(table)
    return found


def _inline(table: dict[str, Any]) -> Any:
    found = tomlkit.inline_table()
    for key, value in table.items():
        found[key] = _inline(value) if isinstance(value, dict) else value
    return found


def _list(tests: Iterable[str]) -> Any:
    found = tomlkit.array()
    found.extend(tests)
    return found.multiline(multiline=True)


def _name(test: str) -> str:
    """The name of a test with its parameters, which may hold colons, from its id."""
    head, bracket, rest = test.partition("[")
    return f"{head.rpartition('::')[2]}{bracket}{rest}"


def _first_line(message: str) -> str:
    line = message.strip().partition("\n")[0] or "no message"
    cut = len(line) > _MESSAGE_CHARACTERS
    return f"{line[: _MESSAGE_CHARACTERS - 1]}…" if cut else line
