"""How the commands end when they cannot go on."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

import click

from conformance import writing
from conformance.exit_codes import ExitCode


class Problem(click.ClickException):
    """What went wrong, in one sentence; the exit code is pytest's for a usage error."""

    exit_code = ExitCode.PROBLEM


class Commands(click.Group):
    """A group whose own exit codes are ours: click says 2 where pytest says 4."""

    def main(  # type: ignore[override]  # click overloads it by a literal
        self, args: Any = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run the command that the arguments name, and leave with its exit code."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except click.UsageError as error:
            error.show()
            sys.exit(ExitCode.PROBLEM)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("Aborted!", err=True)
            sys.exit(ExitCode.INTERRUPTED)
        except Exception as error:  # noqa: BLE001  # 1 would say: found something
            click.echo(f"Error: {_own_bug(error)}", err=True)
            sys.exit(ExitCode.INTERNAL)
        sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _own_bug(error: Exception) -> str:
    """Say what a report of this error needs: its type, its place, its words."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    first = str(error).partition("\n")[0]
    told = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return (
        f"this is a bug of aoti-conformance, please report it with the command and "
        f"its files: {told} ({Path(place.filename).name}:{place.lineno})"
    )


def write_text(option: str, path: Path, text: str) -> None:
    """Write what `option` asks for.

    Raises:
        Problem: It cannot be written.
    """
    try:
        writing.write(path, text)
    except OSError as error:
        raise Problem(f"{option}={path}: cannot be written ({error})") from error
