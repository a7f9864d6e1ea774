"""A stage for the machinery: a small SPEC.md, a small adapter, small clauses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from textwrap import dedent

import pytest

import conformance
from conformance.results import Run, read

_SPEC = """
# A small specification

## CAP capture

### CAP-01 The first claim
It MUST hold.
*Why:* It is the first.

### CAP-02 A claim about ranges
It MUST hold at every size.
*Why:* It is the second.
*Needs:* dynamic
"""

_ADAPTER = """
from conformance.adapter import Info

info = Info("small", "1.0", "https://example.org", "https://example.org/issues")
capabilities = frozenset()

def capture(*args): ...
def export(*args): ...
def compile(*args): ...
def apply(*args): ...
"""

_CONFTEST = """
from pathlib import Path
from conformance import collecting, spec

spec.SPEC = Path(__file__).with_name("SPEC.md")
collecting.CLAUSES = Path(__file__).with_name("clauses")
"""

_HEAD = """
import os, signal, subprocess, sys, time
import pytest
from conformance.adapter import Unsupported
from conformance.spec import blocked, clause
"""


def plugin() -> tuple[str, ...]:
    """The options by which another pytest finds the suite's plugin."""
    points = entry_points(group="pytest11")
    installed = any(point.value == "conformance.plugin" for point in points)
    return () if installed else ("-p", "conformance.plugin")


@dataclass(frozen=True)
class Stage:
    """A folder in which the suite is a small one."""

    pytester: pytest.Pytester

    def write(self, path: str, text: str) -> Path:
        """Write the file `path`, and say where it is."""
        target = self.pytester.path / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(dedent(text), encoding="utf-8")
        return target

    def clauses(self, text: str) -> None:
        """Write the module of clause tests."""
        self.write("clauses/test_small.py", _HEAD + dedent(text))

    def run(self, *arguments: str, impl: str = "small_adapter") -> pytest.RunResult:
        """Run pytest here."""
        return self.pytester.runpytest_subprocess(
            *plugin(), "-p", "no:cacheprovider", f"--aoti-impl={impl}", *arguments
        )

    def results(self, *arguments: str) -> Run:
        """Run pytest here and read its results file."""
        self.run("--aoti-report=out.jsonl", *arguments)
        return read(self.pytester.path / "out.jsonl")


def outcomes(run: Run) -> dict[str, str]:
    """The outcome of each test, by its name."""
    return {result.id.partition("::")[2]: result.outcome for result in run.results}


@pytest.fixture
def stage(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Stage:
    checkout = str(Path(conformance.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([checkout, str(pytester.path)]))
    made = Stage(pytester)
    made.write("SPEC.md", _SPEC)
    made.write("small_adapter.py", _ADAPTER)
    made.write("conftest.py", _CONFTEST)
    return made
