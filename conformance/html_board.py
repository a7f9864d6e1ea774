"""The board as one HTML page that needs nothing beside itself.

It opens from a file, without a network: its own script and style are all that its
policy lets run, so a message can hold what it likes.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from conformance import fuzz_results, html_data, lines, measured, results, spec
from conformance.board import environment, labels
from conformance.fuzz_results import CLEAN, OUTCOMES
from conformance.problems import Problem, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from conformance.fuzz_results import FuzzRun
    from conformance.measured import Measured
    from conformance.results import Run

# A word says the outcome, a sign shows it, a colour is on top of both.
MARKS = {
    "pass": "✓",
    "fail": "✗",
    "error": "!",
    "crash": "↯",
    "timeout": "∞",
    "xfail": "≈",
    "xpass": "?",
    "unsupported": "○",
    "blocked": "■",
    html_data.NOT_RUN: "·",
}
MEANINGS = {
    "pass": "the clause holds",
    "fail": "it is broken",
    "error": "the harness or the machine failed",
    "crash": "a signal ended the process",
    "timeout": "it did not end in time",
    "xfail": "a known deviation, with its reason",
    "xpass": "a known deviation that is gone",
    "unsupported": "a capability that is not claimed",
    "blocked": "the machine lacks what it needs",
    html_data.NOT_RUN: "there is no result",
}
_MANY = 6  # runs, from which on a row has no room for columns


@dataclass(frozen=True)
class Files:
    """What was given to a report, by kind."""

    runs: list[Run]
    fuzzed: list[FuzzRun]
    measured: list[Measured]


def read(paths: Sequence[Path]) -> Files:
    """Read results, fuzzes and (`.json`) benchmarks.

    Raises:
        BrokenResults: One of them is none of these.
    """
    found = Files([], [], [])
    for path in paths:
        text = lines.text_of(path)
        if path.suffix == measured.SUFFIX:
            found.measured.append(measured.parse(path, text))
        elif fuzz_results.is_fuzz(text):
            found.fuzzed.append(fuzz_results.parse(path, text))
        else:
            found.runs.append(results.parse(path, text))
    return found


def render(found: Files, known: Mapping[str, spec.Clause] | None = None) -> str:
    """Write the page.

    Args:
        found: What it shows.
        known: The catalogue that says what a clause demands; this installation's
            if None.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("conformance", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["markdown"] = _markdown()
    runs = found.runs
    catalogue = spec.catalogue() if known is None else known
    rows = html_data.rows(runs, catalogue)
    style = jinja.from_string(_text("board.css")).render(runs=len(runs))
    script = _text("board.js")
    return jinja.get_template("board.html.j2").render(
        style=_trusted(style),
        script=_trusted(script),
        policy=f"default-src 'none'; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        runs=runs,
        labels=_distinct(labels(runs)),
        environment=environment,
        digest=spec.digest(),
        profiles=list(dict.fromkeys(name for run in runs for name in run.verdicts)),
        rows=rows,
        chapters=html_data.chapters(rows),
        outcomes=_seen(rows),
        marks=MARKS,
        meanings=MEANINGS,
        many=len(runs) > _MANY,
        data=html_data.payload(runs, rows),
        fuzzed=found.fuzzed,
        examples=html_data.examples,
        fuzz_outcomes=OUTCOMES,
        clean=CLEAN,
        measured=found.measured,
    )


def put(path: Path | None, found: Files) -> None:
    """Write the page to `path`, if there is one.

    Raises:
        Problem: It cannot be written, or there is no page for what only a page shows.
    """
    if path is None:
        if found.measured:
            name = found.measured[0].name
            raise Problem(f"{name}: measurements are shown in a page only: --html FILE")
        return
    write_text("--html", path, render(found))


def _distinct(names: Sequence[str]) -> list[str]:
    """Number names that are there again, for the filter and the address."""
    return [
        f"{name} ({names[: at + 1].count(name)})" if name in names[:at] else name
        for at, name in enumerate(names)
    ]


def _seen(rows: Sequence[html_data.Row]) -> list[str]:
    there = {cell.outcome for row in rows for cell in row.cells}
    return [outcome for outcome in html_data.SHOWN if outcome in there]


def _text(name: str) -> str:
    path = files("conformance").joinpath("templates", name)
    return path.read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _trusted(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # noqa: S704  # a file of this package


def _markdown() -> Callable[[str], Any]:
    """Give the filter for SPEC.md's own text; HTML in it stays text."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("js-default")
    return lambda text: _trusted(parser.render(text))
