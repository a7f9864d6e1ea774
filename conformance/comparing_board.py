"""What differs between two runs, for a terminal and in Markdown."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from conformance import board
from conformance.comparing import ABSENT, BETTER, KINDS, NEW, WORSE, fallen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.comparing import Change
    from conformance.results import Run

_STYLES = {WORSE: "bold red", BETTER: "green"}
_TESTS = 5


def terminal(
    old: Run, new: Run, changes: Sequence[Change], *, width: int, colour: bool = False
) -> str:
    """Draw `changes` for a terminal `width` columns wide."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        soft_wrap=True,
    )
    console.print(Text(_heading(old, new), style="bold"))
    for change in changes:
        style = _STYLES.get(change.kind, "")
        console.print(
            Text(f"{change.kind:<8}", style=style),
            Text(change.clause),
            Text(_way(change)),
        )
        console.print(Text(f"         {_tests(change)}"))
        if change.message and change.new != "pass":
            console.print(Text(f"         {board.short(change.message)}", style="dim"))
    for line in _verdicts(old, new):
        console.print(Text(line))
    console.print(Text(_summary(old, new, changes), style="bold"))
    file = console.file
    assert isinstance(file, io.StringIO)  # noqa: S101  # it is the one from above
    return file.getvalue().rstrip()


def markdown(old: Run, new: Run, changes: Sequence[Change]) -> str:
    """Write `changes` in Markdown."""
    parts = [
        "# Two runs compared\n",
        f"{_heading(old, new)}\n",
        f"{_summary(old, new, changes)}\n",
    ]
    lines = [f"- {line}" for line in _verdicts(old, new)]
    if lines:
        parts.append("\n".join(lines) + "\n")
    for kind in KINDS:
        rows = [
            [c.clause, _way(c), _tests(c), board.short(c.message)]
            for c in changes
            if c.kind == kind
        ]
        if rows:
            heads = ["clause", "outcome", "tests", "what happened"]
            parts.append(f"## {kind}\n\n{board.markdown_table(heads, rows)}")
    return "\n".join(parts)


def _heading(old: Run, new: Run) -> str:
    then, now = (f"{run.name} ({board.environment(run)})" for run in (old, new))
    if old.header["catalogue"] != new.header["catalogue"]:
        now += "; the clauses are not the same"
    return f"{then} -> {now}"


def _way(change: Change) -> str:
    if change.old == ABSENT:
        return change.new
    return f"{change.old} -> {'gone' if change.new == ABSENT else change.new}"


def _tests(change: Change) -> str:
    more = len(change.tests) - _TESTS
    told = ", ".join(change.tests[:_TESTS])
    return f"{told} and {more} more" if more > 0 else told


def _verdicts(old: Run, new: Run) -> list[str]:
    before, after = old.verdicts, new.verdicts
    return [
        f"{profile}: {before.get(profile, 'no clauses')} -> {verdict}"
        for profile, verdict in after.items()
        if str(before.get(profile)) != str(verdict)
    ]


def _summary(old: Run, new: Run, changes: Sequence[Change]) -> str:
    counts = {
        kind: sum(len(c.tests) for c in changes if c.kind == kind) for kind in KINDS
    }
    broken = sum(
        len(c.tests)
        for c in changes
        if c.kind == NEW and c.new not in ("pass", "xfail")
    )
    told = [f"{number} {kind}" for kind, number in counts.items() if number]
    if broken:
        told.append(f"of the new, {broken} do not pass")
    told += [f"{name} is conformant no more" for name in fallen(old, new)]
    return ", ".join(told) or "nothing differs"
