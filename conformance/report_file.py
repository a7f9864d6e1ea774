"""The file of `--aoti-report`, while a session runs."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance.results import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.results import Result, Run


class ReportFile:
    """Takes results as they come; a disk that is full ends the file, not pytest."""

    def __init__(self, name: str) -> None:
        """Open the file `name`.

        Raises:
            pytest.UsageError: It cannot be written.
        """
        self.path = Path(name)
        self.problem = ""
        try:
            self._writer = Writer(self.path)
        except OSError as error:
            raise pytest.UsageError(self._told(error)) from error

    def begin(self, run: Run) -> None:
        """Write the header and the plan."""
        self._try(lambda: self._writer.begin(run))

    def result(self, result: Result) -> None:
        """Write one result."""
        self._try(lambda: self._writer.result(result))

    def end(self, footer: dict[str, Any]) -> None:
        """Write the footer and close the file."""
        self._try(lambda: self._writer.end(footer))

    def close(self) -> None:
        """Close the file as it is."""
        self._try(self._writer.close)

    def _try(self, put: Callable[[], None]) -> None:
        if self.problem:
            return
        try:
            put()
        except OSError as error:
            self.problem = self._told(error)
            with contextlib.suppress(
                OSError
            ):  # what it could not write, it tries again
                self._writer.close()

    def _told(self, error: OSError) -> str:
        return f"--aoti-report={self.path}: cannot be written ({error})"
