"""The board: what one or several runs found, for a terminal and in Markdown."""

from __future__ import annotations

import io
import re
import shutil
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from conformance import fuzz_board
from conformance.judging import OUTCOMES
from conformance.spec import BrokenSpec, chapters

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from conformance.fuzz_results import FuzzRun
    from conformance.results import Run

# The worst first: it is the one that a clause is shown with.
_WORST = (
    "crash",
    "timeout",
    "fail",
    "error",
    "xpass",
    "xfail",
    "blocked",
    "unsupported",
    "pass",
)
_STYLES = {
    "pass": "green",
    "xfail": "yellow",
    "blocked": "yellow",
    "unsupported": "cyan",
    "conformant": "bold green",
    "not claimed": "cyan",
    "incomplete": "yellow",
}
_BAD = "bold red"
_MESSAGE_CHARACTERS = 160
_NARROWEST = 80


def terminal(
    runs: Sequence[Run],
    fuzzed: Sequence[FuzzRun] = (),
    *,
    width: int | None = None,
    colour: bool = False,
) -> str:
    """Draw the board of `runs` and fuzzes for a terminal `width` columns wide."""
    columns = width or max(shutil.get_terminal_size((100, 24)).columns, _NARROWEST)
    console = Console(
        file=io.StringIO(),
        width=columns,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
    )
    for run in runs:
        _draw_run(console, run)
    if len(runs) > 1:
        console.print(_side_by_side(runs))
    for fuzz in fuzzed:
        console.print(fuzz_board.table(fuzz.tally, f"{fuzz.name}: fuzz"))
    file = console.file
    assert isinstance(file, io.StringIO)  # noqa: S101  # it is the one from above
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def markdown(runs: Sequence[Run], fuzzed: Sequence[FuzzRun] = ()) -> str:
    """Write the board of `runs` and fuzzes in Markdown."""
    parts = ["# Conformance\n"]
    if len(runs) > 1:
        parts.append(_markdown_side_by_side(runs))
    if fuzzed:
        parts.append(fuzz_board.markdown(fuzzed))
    for run in runs:
        parts.append(f"## {_cell(run.name)}\n\n{environment(run)}\n")
        heads = ["chapter", *_seen(run)]
        parts.append(
            markdown_table(heads, ([name, *counts] for name, counts in _rows(run)))
        )
        lines = (
            f"- `{profile}`: {verdict}" for profile, verdict in run.verdicts.items()
        )
        parts.append("\n".join(lines) + "\n")
        others = [
            [name, outcome, short(told)] for name, outcome, told in _not_pass(run)
        ]
        if others:
            parts.append(markdown_table(["clause", "outcome", "what happened"], others))
    return "\n".join(parts)


def worst(outcomes: Iterable[str]) -> str:
    """Return the worst of `outcomes`, or `not run` if there is none."""
    there = set(outcomes)
    return next((outcome for outcome in _WORST if outcome in there), "not run")


def _draw_run(console: Console, run: Run) -> None:
    console.print(Text(run.name, style="bold"), Text(environment(run), style="dim"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("chapter")
    for outcome in _seen(run):
        table.add_column(outcome, justify="right", style=_STYLES.get(outcome, _BAD))
    for name, counts in _rows(run):
        table.add_row(name, *counts)
    console.print(table)
    for name, outcome, told in _not_pass(run):
        title = run.clauses[name]["title"] if name in run.clauses else ""
        style = _STYLES.get(outcome, _BAD)
        console.print(
            Text(f"{name} "), Text(outcome, style=style), Text(title), sep="  "
        )
        if told:
            console.print(Text(f"        {short(told)}", style="dim"), soft_wrap=True)
    for profile, verdict in run.verdicts.items():
        style = _STYLES.get(verdict.verdict, _BAD)
        console.print(Text(f"{profile:<12}"), Text(str(verdict), style=style))
    console.print()


def environment(run: Run) -> str:
    """Say where `run` was made, and whether something of it is missing."""
    there = run.header["environment"]
    torch = there["versions"].get("torch", "none")
    gpus = f", {len(there['gpus'])} x {there['gpus'][0]}" if there["gpus"] else ""
    told = [f"torch {torch}, Python {there['python']}, {there['cpus']} CPUs{gpus}"]
    if not run.complete:
        told.append("cut short")
    if run.part:
        told.append(run.part)
    if run.cut:
        told.append(f"{len(run.cut)} clauses run in part")
    return ", ".join(told)


def labels(runs: Sequence[Run]) -> list[str]:
    """Name the columns; those of GPUs, and of one name, by device and torch too."""
    names = [run.name for run in runs]
    return [
        f"{run.name}, {_device(run)}"
        if names.count(run.name) > 1 or not _device(run).startswith("cpu")
        else run.name
        for run in runs
    ]


def _device(run: Run) -> str:
    there = run.header["environment"]
    torch = there["versions"].get("torch", "none")
    return f"{there.get('device', 'cpu')}, torch {torch}"


def _seen(run: Run) -> list[str]:
    there = {result.outcome for result in run.results} | {"pass"}
    return [outcome for outcome in OUTCOMES if outcome in there]


def _rows(run: Run) -> list[tuple[str, list[str]]]:
    """Count the outcomes of each chapter that has results."""
    names = chapter_names()
    letters = list(dict.fromkeys(name[:3] for name in run.clauses))
    rows = []
    for chapter in letters:
        found = [
            result.outcome
            for result in run.results
            if result.clause.startswith(chapter)
        ]
        if found:
            counts = [str(found.count(outcome) or "") for outcome in _seen(run)]
            rows.append((f"{chapter} {names.get(chapter, '')}".rstrip(), counts))
    return rows


def chapter_names() -> dict[str, str]:
    """Names of chapters, if this installation knows them; the letters do without."""
    try:
        return chapters()
    except (OSError, BrokenSpec):
        return {}


def _by_clause(run: Run) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for result in run.results:
        found.setdefault(result.clause, []).append((result.outcome, result.message))
    for test in run.missing:
        found.setdefault(run.plan[test], [])
    return found


def _not_pass(run: Run) -> list[tuple[str, str, str]]:
    """List the clauses that are not pass, with the worst outcome and its message."""
    rows = []
    for name, results in sorted(_by_clause(run).items()):
        outcome = worst(outcome for outcome, _ in results)
        if outcome != "pass":
            told = next((message for found, message in results if found == outcome), "")
            rows.append((name, outcome, told))
    return rows


def _compared(runs: Sequence[Run]) -> list[list[str]]:
    clauses = dict.fromkeys(name for run in runs for name in run.clauses)
    found = [_by_clause(run) for run in runs]
    return [
        [name, *(worst(outcome for outcome, _ in one.get(name, [])) for one in found)]
        for name in clauses
    ]


def _side_by_side(runs: Sequence[Run]) -> Table:
    table = Table("clause", *labels(runs), box=box.SIMPLE_HEAD, pad_edge=False)
    for name, *outcomes in _compared(runs):
        table.add_row(
            name,
            *(Text(outcome, style=_STYLES.get(outcome, _BAD)) for outcome in outcomes),
        )
    return table


def _markdown_side_by_side(runs: Sequence[Run]) -> str:
    heads = ["clause", *labels(runs)]
    profiles = dict.fromkeys(profile for run in runs for profile in run.verdicts)
    verdicts = [[run.verdicts.get(profile) for run in runs] for profile in profiles]
    rows = [
        [f"`{profile}`", *(entry.verdict if entry else "" for entry in row)]
        for profile, row in zip(profiles, verdicts, strict=True)
    ]
    first = markdown_table(["profile", *heads[1:]], rows)
    return f"{first}\n{markdown_table(heads, _compared(runs))}"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(
        f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines
    )


def _cell(text: str) -> str:
    # A line that ends in a cell ends the table.
    return re.sub(r"([|<])", r"\\\1", " ".join(text.splitlines()))


def short(message: str) -> str:
    """Take the first line of a message, and not too much of it."""
    line = next(iter(message.strip().splitlines()), "")
    return (
        line
        if len(line) <= _MESSAGE_CHARACTERS
        else f"{line[: _MESSAGE_CHARACTERS - 1]}…"
    )
