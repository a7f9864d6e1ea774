"""The exit codes of every command; docs/exit-codes.md says what each command means."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ends: the numbers are pytest's, so that CI reads one table."""

    OK = 0
    FOUND = 1
    INTERRUPTED = 2
    INTERNAL = 3
    PROBLEM = 4
    NOTHING = 5
