"""The command `aoti-conformance expect`."""

from __future__ import annotations

from pathlib import Path

import click

from conformance import spec
from conformance.cli_report import read_whole
from conformance.deviations import BadDeviations
from conformance.problems import Problem, write_text

_FILE = click.Path(path_type=Path, dir_okay=False)
_EPILOG = """
\b
Examples:
  pytest --pyargs conformance --aoti-impl=my_pkg.adapter --aoti-report=mine.jsonl
  aoti-conformance expect --update known.toml mine.jsonl
  $EDITOR known.toml          # a reason and a `see` for what is new
  pytest --pyargs conformance --aoti-impl=my_pkg.adapter --aoti-expected=known.toml

An entry may be of `kind` bug, upstream or flaky, name `tests`, and hold only where its
`when` says: a table of platform, device and versions.
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--update", required=True, type=_FILE, help="The file: made, or brought up to date."
)
@click.argument("results", type=_FILE)
def expect(update: Path, results: Path) -> None:
    """Write the known deviations of a run, for a person to review.

    Keeps reasons and comments, drops what passes now, and adds what does not. What is
    added says `unreviewed`, and a run that is given such a file stops before its first
    test: replace the reason by what happens instead, and `see` by where it is written
    down. Of a run that was split between hosts, merge the groups first.
    """
    from conformance.expecting import Update

    (run,) = read_whole([results])
    try:
        made = Update(update, spec.catalogue())
        made.take(run)
    except BadDeviations as error:
        raise Problem(str(error)) from error
    write_text("--update", update, made.text(run.header["implementation"]["name"]))
    for line in made.said:
        click.echo(line)
    click.echo(
        f"{update}: {len(made.said)} changes" if made.said else "nothing changed"
    )
