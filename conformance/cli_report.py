"""The command `aoti-conformance report`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from conformance import html_board, spec
from conformance.lines import BrokenResults
from conformance.problems import Problem, write_text
from conformance.results import Run, read

_FILE = click.Path(path_type=Path, dir_okay=False)
_EPILOG = """
\b
Examples:
  aoti-conformance report results.jsonl
  aoti-conformance report mine.jsonl theirs.jsonl --markdown board.md
  aoti-conformance report mine.jsonl benchmarks/results/*.json --html board.html
  aoti-conformance report results.jsonl --junit junit.xml --badge badge.json

A badge is what https://img.shields.io/endpoint?url=... reads. The exit code is 0
whatever the results are: pytest and `diff` are the gates.
"""


@click.command(epilog=_EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--markdown", type=_FILE, help="Write the board here, too.")
@click.option("--html", type=_FILE, help="Write the board here, too, as one page.")
@click.option("--junit", type=_FILE, help="Write JUnit XML here: a suite per file.")
@click.option("--badge", type=_FILE, help="Write a badge here, as shields.io wants it.")
@click.option(
    "--badge-profile",
    type=click.Choice([*spec.PROFILES, "all"]),
    default="all",
    show_default=True,
    help="The profile whose verdict the badge shows.",
)
def report(
    files: tuple[Path, ...],
    markdown: Path | None,
    html: Path | None,
    junit: Path | None,
    badge: Path | None,
    badge_profile: str,
) -> None:
    """Print the board of one or several results files, side by side.

    FILES are what `--aoti-report`, `merge` and `fuzz --output` wrote, and, with
    `--html`, what programs under benchmarks/ did. A file whose run was killed is shown,
    as cut short, unless it was killed before its plan was written.
    """
    from conformance import badge as badges  # rich, and XML, take their time
    from conformance import board
    from conformance import junit as xml

    try:
        found = html_board.read(files)
    except BrokenResults as error:
        raise Problem(str(error)) from error
    runs, fuzzed = found.runs, found.fuzzed
    for name, wanted in (("junit", junit), ("badge", badge)):
        if wanted is not None and not runs:
            raise Problem(f"--{name}={wanted}: none of the files is a run of the suite")
    html_board.put(html, found)
    colour = sys.stdout.isatty()
    click.echo(board.terminal(runs, fuzzed, colour=colour), color=colour)
    if markdown is not None:
        write_text("--markdown", markdown, board.markdown(runs, fuzzed))
    if junit is not None:
        write_text("--junit", junit, xml.junit(runs))
    if badge is not None:
        write_text("--badge", badge, badges.badge(runs, badge_profile))


def read_all(files: list[Path]) -> list[Run]:
    """Read results files.

    Raises:
        Problem: One of them is none.
    """
    try:
        return [read(path) for path in files]
    except BrokenResults as error:
        raise Problem(str(error)) from error


def read_whole(files: list[Path]) -> list[Run]:
    """Read results files of whole runs.

    Raises:
        Problem: One of them is none, or is one group of several.
    """
    runs = read_all(files)
    for path, run in zip(files, runs, strict=True):
        if run.part:
            raise Problem(f"{path} is one group of several: merge them first")
    return runs
