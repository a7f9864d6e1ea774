"""The command `aoti-conformance doctor`."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conformance.doctor.checks import CHECKS, Check, Examination
from conformance.doctor.findings import BREAKS, GOOD, NOTE, Finding
from conformance.doctor.gpu import SEEN, each
from conformance.exit_codes import ExitCode
from conformance.fresh import Died

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

_EPILOG = """
\b
Examples:
  aoti-conformance doctor
  aoti-conformance doctor --check compiler --check tmpdir
  CXX=g++ aoti-conformance doctor --check cpu
  aoti-conformance doctor --json > machine.json

The exit code is 0 if nothing breaks, notes or not, and 1 if something does.
"""
_NO_FOLDER = "make room, or set TMPDIR to a folder that can be written to"
_STYLES = {GOOD: "green", NOTE: "yellow", BREAKS: "bold red"}
_SIGNS = {GOOD: "+", NOTE: "!", BREAKS: "x"}


@click.command(epilog=_EPILOG)
@click.option(
    "--check",
    "names",
    multiple=True,
    type=click.Choice([check.name for check in (*CHECKS, SEEN)]),
    help="Only this check; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print findings as JSON.")
def doctor(names: tuple[str, ...], *, as_json: bool) -> None:
    """Find what of this machine gets in the way of compiled packages, and the cure.

    Looks at torch, the C++ compiler, TMPDIR, the disk, forks and versions, and
    compiles, loads and runs a tiny package with bare torch, on the CPU and on each GPU.
    Every attempt is made in a child process with a deadline: one that crashes is a
    finding.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    errors = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    chosen = [check for check in (*CHECKS, SEEN) if not names or check.name in names]
    found = []
    with Progress(
        *columns, console=errors, transient=True, disable=not errors.is_terminal
    ) as progress:
        task = progress.add_task("", total=None)
        for finding in _examine(
            chosen, lambda title: progress.update(task, description=title)
        ):
            found.append(finding)
            if not as_json:
                progress.stop()  # what it drew must not stand between the lines
                _tell(finding, Console(highlight=False, soft_wrap=True))
                progress.start()
    broken = sum(finding.level == BREAKS for finding in found)
    notes = sum(finding.level == NOTE for finding in found)
    if as_json:
        content = {"good": not broken, "findings": [asdict(entry) for entry in found]}
        click.echo(json.dumps(content, indent=2))
    else:
        click.echo(f"\n{broken} that break, {notes} to note, {len(found)} in all")
    sys.exit(ExitCode.FOUND if broken else ExitCode.OK)


def _examine(
    checks: Sequence[Check], announce: Callable[[str], None]
) -> Iterator[Finding]:
    try:
        holder = tempfile.TemporaryDirectory(prefix="aoti-doctor-")
    except OSError as error:
        told = f"no temporary folder can be made: {error}"
        yield Finding("tmpdir", BREAKS, told, _NO_FOLDER)
        return
    with holder as folder:
        visit = Examination(Path(folder))
        left = list(checks)
        while left:
            check = left.pop(0)
            announce(f"{check.title} ...")
            try:
                yield from check.look(visit)
            except Died as died:
                yield Finding(check.name, BREAKS, _last_words(check, died), check.dies)
            except OSError as error:  # of this process: there is no room for the child
                yield Finding(check.name, BREAKS, f"{check.title}: {error}", _NO_FOLDER)
            if check is SEEN:
                left = each(visit)


def _last_words(check: Check, died: Died) -> str:
    """Say how a child ended, and the line that tells why, if one does."""
    lines = [line.strip() for line in died.stderr.strip().splitlines() if line.strip()]
    told = lines[-1] if died.how.startswith("exit code") and lines else died.how
    return f"{check.title}: {told}"


def _tell(finding: Finding, console: Console) -> None:
    from rich.text import Text

    style = _STYLES[finding.level]
    console.print(
        Text(f"{_SIGNS[finding.level]} {finding.level:<7}", style=style),
        Text(f"{finding.check:<10}", style="bold"),
        Text(finding.found),
    )
    if finding.cure:
        console.print(Text(f"{'':<21}cure: {finding.cure}"))
