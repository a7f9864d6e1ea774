"""What `aoti-conformance run --help` says of the options that are the suite's."""

from __future__ import annotations

from typing import Any

import click


class WithOptionsOfPytest(click.Command):
    """A command that hands its arguments on to pytest, and knows the suite's own."""

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the options that the plugin adds to pytest, then this command's."""
        from conformance import plugin  # it imports pytest

        found = _Options()
        plugin.pytest_addoption(found)  # type: ignore[arg-type]  # it asks no more
        with formatter.section("Options of the suite"):
            formatter.write_dl(found.rows)
        super().format_options(ctx, formatter)


class _Options:
    """Stands in for pytest's parser, and for its one group."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def getgroup(self, *_: str) -> _Options:
        return self

    def addoption(self, name: str, **told: Any) -> None:
        value = told.get("metavar") or "|".join(told.get("choices", ()))
        self.rows.append((f"{name}={value}", told["help"]))
