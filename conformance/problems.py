"""How the commands end when they cannot go on."""

from __future__ import annotations

import click


class Problem(click.ClickException):
    """What went wrong, in one sentence; the exit code is pytest's for a usage error."""

    exit_code = 4
