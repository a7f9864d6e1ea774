"""The command `aoti-conformance`: results, clauses, and a short way to run."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path

import click

from conformance import __version__, sources, spec
from conformance.cli_doctor import doctor
from conformance.cli_expect import expect
from conformance.cli_fuzz import fuzz
from conformance.cli_merge import diff, merge
from conformance.cli_report import report
from conformance.cli_run import WithOptionsOfPytest
from conformance.problems import Commands, Problem

_EPILOG = """
\b
A first hour:
  aoti-conformance doctor                            # can this machine do it at all?
  aoti-conformance run --aoti-impl=my_pkg.adapter --aoti-report=mine.jsonl
  aoti-conformance report mine.jsonl                 # the board, again
  aoti-conformance clauses APP-03                    # what one of them demands, and why
  aoti-conformance expect --update known.toml mine.jsonl   # what is known to fail
  aoti-conformance diff main.jsonl mine.jsonl        # the gate of a pull request

Exit codes: 0 good, 1 found something, 4 cannot be done; all of them in
docs/exit-codes.md.
"""


@click.group(
    cls=Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="aoti-conformance")
def main() -> None:
    """Hold a layer over AOTInductor to its specification."""
    # An adapter may be a file in this folder, as `python -m pytest` finds it.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


@main.command(
    epilog="""
\b
Examples:
  aoti-conformance clauses             # every clause, with its profiles
  aoti-conformance clauses APP-03      # one, with its tests and mutants
"""
)
@click.argument("id", required=False)
def clauses(id: str | None) -> None:  # noqa: A002  # it is what the help calls it
    """List the clauses, or show one with its reason, its tests and its mutants.

    A mutant is an implementation that breaks this one clause, and proves that its
    tests bite.
    """
    try:
        known = spec.catalogue()
    except (OSError, spec.BrokenSpec) as error:
        raise Problem(str(error)) from error
    id = id and id.upper()  # noqa: A001  # likewise
    if id is None:
        for entry in known.values():
            click.echo(f"{entry.id}  {entry.title}  [{', '.join(entry.profile)}]")
        return
    if id not in known:
        close = get_close_matches(id, known, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise Problem(f"SPEC.md has no {id}{hint}")
    entry = known[id]
    click.echo(f"{entry.id} {entry.title}\n\n{entry.text}\n\nWhy: {entry.why}")
    for name in ("covers", "needs", "profile"):
        if getattr(entry, name):
            click.echo(f"{name.capitalize()}: {', '.join(getattr(entry, name))}")
    for test in sources.tests_of(id):
        click.echo(f"Test: {test}")
    for mutant in sources.mutants_of(id):
        click.echo(f"Mutant: {mutant}")


@main.command(
    cls=WithOptionsOfPytest,
    context_settings={
        "ignore_unknown_options": True,
        # A short name would be found in `-khere`, too.
        "help_option_names": ["--help"],
    },
    epilog="""
\b
Examples:
  aoti-conformance run --aoti-impl=my_pkg.adapter --aoti-report=mine.jsonl
  aoti-conformance run --aoti-impl=my_pkg.adapter --aoti-clause=APP-03 -x
  aoti-conformance run -n 4 --aoti-impl=my_pkg.adapter --aoti-expected=known.toml

All options of pytest work, too: `pytest --help` lists them.
""",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Run the suite: `pytest --pyargs conformance`, with the arguments given."""
    if "-h" in arguments:
        click.echo(context.get_help())
        return
    import pytest  # the other commands do without

    # This command has imported modules of the suite before pytest could rewrite them.
    quiet = "-W", "ignore::pytest.PytestAssertRewriteWarning"
    sys.exit(pytest.main([*quiet, "--pyargs", "conformance", *arguments]))


for command in (report, merge, diff, expect, fuzz, doctor):
    main.add_command(command)

if __name__ == "__main__":
    main()
