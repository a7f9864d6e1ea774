"""The commands `aoti-conformance merge` and `diff`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from conformance.cli_report import read_all, read_whole
from conformance.exit_codes import ExitCode
from conformance.problems import Problem, write_text

_FILES = click.Path(path_type=Path, dir_okay=False)
_MERGE = """
\b
Examples:
  pytest --pyargs conformance --splits 3 --group 1 --aoti-report=1.jsonl   # host 1
  pytest --pyargs conformance --splits 3 --group 2 --aoti-report=2.jsonl   # host 2
  pytest --pyargs conformance --splits 3 --group 3 --aoti-report=3.jsonl   # host 3
  aoti-conformance merge 1.jsonl 2.jsonl 3.jsonl -o results.jsonl

Groups are pytest-split's; give every host the same file of durations, or none. The exit
code is 1 if a known deviation turns out to be gone, which no group alone could tell.
"""
_DIFF = """
\b
Examples:
  aoti-conformance diff main.jsonl branch.jsonl
  aoti-conformance diff torch-2.11.jsonl torch-2.13.jsonl --markdown diff.md

Worse is a test that passes no more, that fails where it was blocked, or that crashes
where it failed; a clause that is not tested any more, or in part only; a test that is
gone, with another that does not pass in its clause; a new clause that is broken; and a
profile that is not conformant any more. The exit code is then 1.

Of a run that was split between hosts, merge the groups first.
"""


@click.command(epilog=_MERGE)
@click.argument("files", nargs=-1, required=True, type=_FILES)
@click.option("-o", "--output", required=True, type=_FILES, help="Write it here.")
@click.option(
    "--incomplete",
    is_flag=True,
    help="Take files of runs that were killed; what is written is incomplete, too.",
)
def merge(files: tuple[Path, ...], output: Path, *, incomplete: bool) -> None:
    """Make one results file of the groups that ran on several hosts.

    FILES must be all groups of one split, each once, of one implementation and one
    catalogue, with the same seed, device and versions.
    """
    from conformance import board, merging
    from conformance.results import save

    try:
        merged = merging.merge(read_all(list(files)), incomplete=incomplete)
    except merging.CannotMerge as error:
        raise Problem(str(error)) from error
    try:
        save(output, merged)
    except OSError as error:
        raise Problem(f"--output={output}: cannot be written ({error})") from error
    click.echo(board.terminal([merged]))
    click.echo(f"results: {output}")
    stale = (merged.footer or {}).get("stale", [])
    for name in stale:
        click.echo(f"ERROR: {name} deviates no more; remove its entry", err=True)
    sys.exit(ExitCode.FOUND if stale else ExitCode.OK)


@click.command(epilog=_DIFF)
@click.argument("old", type=_FILES)
@click.argument("new", type=_FILES)
@click.option("--markdown", type=_FILES, help="Write it here, too.")
def diff(old: Path, new: Path, markdown: Path | None) -> None:
    """Say what got better and what got worse from OLD to NEW, test by test."""
    from conformance import comparing, comparing_board

    before, after = read_whole([old, new])
    changes = comparing.compare(before, after)
    colour = sys.stdout.isatty()
    width = shutil.get_terminal_size((100, 24)).columns
    told = comparing_board.terminal(before, after, changes, width=width, colour=colour)
    click.echo(told, color=colour)
    if markdown is not None:
        text = comparing_board.markdown(before, after, changes)
        write_text("--markdown", markdown, text)
    worse = any(change.kind == comparing.WORSE for change in changes)
    found = worse or comparing.fallen(before, after)
    sys.exit(ExitCode.FOUND if found else ExitCode.OK)
