"""What the board in HTML shows of every clause, small enough for a page."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conformance import spec
from conformance.board import worst
from conformance.judging import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from conformance.fuzz_results import FuzzRun
    from conformance.results import Result, Run
    from conformance.spec import Clause

NOT_RUN = "not run"
SHOWN = (*OUTCOMES, NOT_RUN)
# Stands for the test's id in a command; no command has it, as no argument can.
_TEST = "\0"


@dataclass(frozen=True)
class Cell:
    """A clause of one run: the worst outcome, and how many tests have it.

    Args:
        outcome: One of SHOWN.
        count: Tests that have it.
        tests: Tests of the clause that were planned.
    """

    outcome: str
    count: int
    tests: int

    @property
    def share(self) -> str:
        """`2 of 5`, where tests differ."""
        return "" if self.count == self.tests else f"{self.count} of {self.tests}"


@dataclass(frozen=True)
class Row:
    """A clause: what is known of it, and a cell for each run."""

    id: str
    title: str
    rule: Clause | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Example:
    """One finding of a fuzz, for all that are like it."""

    perturbation: str
    outcome: str
    count: int
    detail: str
    command: str


class _Strings:
    """Every text once, by number."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self.known.setdefault(text, len(self.known))


def rows(runs: Sequence[Run], known: Mapping[str, Clause]) -> list[Row]:
    """Give the clauses of `known`, in their order, and others that the runs had.

    Args:
        runs: Files, in the order of the columns.
        known: The catalogue of this installation. What a run of an older one did
            not have shows as not run.
    """
    asked = {name for run in runs for name in run.clauses}
    found = [_of_clauses(run) for run in runs]
    order = [*known, *sorted(asked - known.keys())]
    return [
        Row(
            name,
            known[name].title if name in known else _title(name, runs),
            known.get(name),
            tuple(_cell(one.get(name, [])) for one in found),
        )
        for name in order
    ]


def payload(runs: Sequence[Run], shown: Sequence[Row]) -> dict[str, Any]:
    """Give what the page looks up when a clause is opened or filtered.

    `clauses` has, by id, the outcome of each cell and a list of tests per run; a
    test is its outcome, name, message and command, as numbers into `outcomes` and
    `strings`. In a command, a zero byte stands for the test's name.
    """
    strings = _Strings()
    found = [_of_clauses(run) for run in runs]
    clauses = {
        row.id: {
            "cells": [SHOWN.index(cell.outcome) for cell in row.cells],
            "tests": [
                [_packed(strings, result) for result in one.get(row.id, [])]
                for one in found
            ],
        }
        for row in shown
    }
    return {"outcomes": SHOWN, "clauses": clauses, "strings": list(strings.known)}


def chapters(shown: Sequence[Row]) -> dict[str, tuple[str, list[Row]]]:
    """Group rows by chapter: its letters, its name if there is one, its rows."""
    try:
        names = spec.chapters()
    except (OSError, spec.BrokenSpec):  # the letters do without
        names = {}
    grouped: dict[str, tuple[str, list[Row]]] = {}
    for row in shown:
        letters = row.id[:3]
        grouped.setdefault(letters, (names.get(letters, ""), []))[1].append(row)
    return grouped


def examples(fuzz: FuzzRun) -> list[Example]:
    """Give one finding of each perturbation and outcome."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for finding in fuzz.findings:
        key = finding["perturbation"], finding["outcome"]
        counts[key] += 1
        first.setdefault(key, finding)
    return [
        Example(*key, counts[key], first[key]["detail"], first[key]["command"])
        for key in sorted(first)
    ]


def _title(name: str, runs: Sequence[Run]) -> str:
    titles = (str(r.clauses[name]["title"]) for r in runs if name in r.clauses)
    return next(titles, "")


def _of_clauses(run: Run) -> dict[str, list[tuple[str, Result | str]]]:
    """List the tests of each clause: with its result, or its id if it has none."""
    found: dict[str, list[tuple[str, Result | str]]] = {}
    for result in run.results:
        found.setdefault(result.clause, []).append((result.outcome, result))
    for test in run.missing:
        found.setdefault(run.plan[test], []).append((NOT_RUN, test))
    return found


def _cell(tests: Sequence[tuple[str, Result | str]]) -> Cell:
    outcomes = [outcome for outcome, _ in tests]
    # A planned test without a result prevents a verdict more than a known deviation.
    if NOT_RUN in outcomes and set(outcomes) <= {NOT_RUN, "pass"}:
        found = NOT_RUN
    else:
        found = worst(outcomes)
    return Cell(found, outcomes.count(found), len(outcomes))


def _packed(strings: _Strings, test: tuple[str, Result | str]) -> list[int]:
    outcome, result = test
    if isinstance(result, str):
        return [SHOWN.index(outcome), strings.number(result)]
    # Commands differ by the test alone, nearly always.
    quoted = shlex.quote(result.id)
    command = result.command.replace(quoted, _TEST)
    texts = result.id, result.message, command
    return [SHOWN.index(outcome), *map(strings.number, texts)]
