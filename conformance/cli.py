"""The command `aoti-conformance`: results, clauses, and a short way to run."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import click

from conformance import __version__, html_board, spec
from conformance.cli_fuzz import fuzz
from conformance.collecting import CLAUSES
from conformance.problems import Problem
from conformance.results import BrokenResults


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="aoti-conformance")
def main() -> None:
    """Hold a layer over AOTInductor to its specification."""


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--markdown", type=click.Path(path_type=Path), help="Write the board here, too."
)
@click.option(
    "--html", type=click.Path(path_type=Path), help="Write it as one page here, too."
)
def report(files: tuple[Path, ...], markdown: Path | None, html: Path | None) -> None:
    """Print the board of one or several results files, side by side."""
    from conformance import board  # rich takes its time

    try:
        found = html_board.read(files)
    except BrokenResults as error:
        raise Problem(str(error)) from error
    html_board.put(html, found)
    runs, fuzzed = found.runs, found.fuzzed
    colour = sys.stdout.isatty()
    click.echo(board.terminal(runs, fuzzed, colour=colour), color=colour)
    if markdown is None:
        return
    try:
        markdown.write_text(board.markdown(runs, fuzzed), encoding="utf-8")
    except OSError as error:
        raise Problem(f"--markdown={markdown}: cannot be written ({error})") from error


@main.command()
@click.argument("id", required=False)
def clauses(id: str | None) -> None:  # noqa: A002  # it is what the help calls it
    """List the clauses, or show one with its reason and its tests."""
    try:
        known = spec.catalogue()
    except (OSError, spec.BrokenSpec) as error:
        raise Problem(str(error)) from error
    if id is None:
        for entry in known.values():
            click.echo(f"{entry.id}  {entry.title}  [{', '.join(entry.profile)}]")
        return
    if id not in known:
        raise Problem(f"SPEC.md has no {id}")
    entry = known[id]
    click.echo(f"{entry.id} {entry.title}\n\n{entry.text}\n\nWhy: {entry.why}")
    for name in ("covers", "needs", "profile"):
        if getattr(entry, name):
            click.echo(f"{name.capitalize()}: {', '.join(getattr(entry, name))}")
    for test in tests_of(id):
        click.echo(f"Test: {test}")


@main.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run the suite: `pytest --pyargs conformance`, with the arguments given."""
    import pytest  # the other commands do without

    sys.exit(pytest.main(["--pyargs", "conformance", *arguments]))


main.add_command(fuzz)


def tests_of(clause: str) -> list[str]:
    """Name the tests of `clause`, without importing them."""
    return [
        f"{path.stem}::{node.name}"
        for path in sorted(CLAUSES.glob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and any(_names_clause(entry, clause) for entry in node.decorator_list)
    ]


def _names_clause(decorator: Any, clause: str) -> bool:  # ast has no better type
    return (
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Name)
        and decorator.func.id == "clause"
        and any(
            isinstance(entry, ast.Constant) and entry.value == clause
            for entry in decorator.args
        )
    )
