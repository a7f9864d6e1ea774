"""The counts of a fuzz, for a terminal and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from conformance.fuzz_results import CLEAN, OUTCOMES

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from conformance.fuzz_results import FuzzRun, Tally


def table(tally: Tally, title: str) -> Table:
    """Draw counts by perturbation, and their sum."""
    drawn = Table("perturbation", title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("calls", *OUTCOMES):
        drawn.add_column(name, justify="right")
    for name, *counts in _rows(tally.by_kind):
        drawn.add_row(name, *counts)
    drawn.add_section()
    drawn.add_row(*_row("all", tally.total))
    return drawn


def markdown(runs: Sequence[FuzzRun]) -> str:
    """Write the counts of several fuzzes: side by side, then by perturbation."""
    heads = ["implementation", "torch", "calls", *OUTCOMES]
    parts = ["## Fuzz\n"]
    sums = [
        [run.name, run.header["environment"]["versions"].get("torch", "none"), *counts]
        for run in runs
        for _, *counts in [_row("", run.tally.total)]
    ]
    parts.append(_table(heads, sums))
    parts.append(
        "Calls with anything in a column from the third on, by perturbation:\n"
    )
    bad = [
        [run.name, name, *counts]
        for run in runs
        for name, *counts in _rows(
            {n: c for n, c in run.tally.by_kind.items() if set(c) - set(CLEAN)}
        )
    ]
    parts.append(_table(["implementation", "perturbation", "calls", *OUTCOMES], bad))
    return "\n".join(parts)


def _rows(counted: Mapping[str, Counter[str]]) -> list[list[str]]:
    return [_row(name, counts) for name, counts in sorted(counted.items())]


def _row(name: str, counts: Counter[str]) -> list[str]:
    numbers = [str(counts[outcome] or "") for outcome in OUTCOMES]
    return [name, str(sum(counts.values())), *numbers]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
