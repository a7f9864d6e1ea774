"""What stops a collection, in one sentence; and what the plugin leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.meta.conftest import outcomes

if TYPE_CHECKING:
    from conformance.meta.conftest import Stage

BOTH = """
@clause("CAP-01")
def test_one(): ...

@clause("CAP-02")
def test_two(): ...
"""


@pytest.mark.parametrize(
    ("clauses", "problem"),
    [
        (
            f'{BOTH}\n@clause("CAP-99")\ndef test_x(): ...',
            "*test_x: SPEC.md has no CAP-99",
        ),
        (
            f"{BOTH}\ndef test_x(): ...",
            "*test_x: a clause test has one clause, this has no clause",
        ),
        (
            f'{BOTH}\n@clause("CAP-02")\n@clause("CAP-01")\ndef test_x(): ...',
            "*test_x: a clause test has one clause, this has 2 clauses*",
        ),
        ('@clause("CAP-01")\ndef test_one(): ...', "no test for CAP-02"),
    ],
    ids=["unknown", "missing", "two", "untested"],
)
def test_clause_that_is_wrong_stops_collection(
    stage: Stage, clauses: str, problem: str
) -> None:
    stage.clauses(clauses)

    shown = stage.run()

    assert shown.ret == pytest.ExitCode.USAGE_ERROR
    shown.stderr.fnmatch_lines([f"ERROR: {problem}"])
    shown.stderr.no_fnmatch_line("Traceback*")


@pytest.mark.parametrize(
    ("adapter", "problem"),
    [
        (None, "adapter 'odd_adapter' cannot be imported*"),
        (
            "raise RuntimeError('too old')",
            "*cannot be imported (RuntimeError: too old)*",
        ),
        ("from small_adapter import *\ndel apply", "*lacks the verbs: apply"),
        (
            "from small_adapter import *\ncapabilities = frozenset({'magic'})",
            "*declares unknown capabilities: magic*",
        ),
        (
            (
                "from small_adapter import *\n"
                "info = Info('small', '1', '', '', cacheable=True)\n"
                "def freeze(*args): ..."
            ),
            "*is cacheable, and has neither freeze and thaw nor save and load",
        ),
        (
            (
                "from small_adapter import *\n"
                "info = Info('small', '1', '', '', packages=('os', 'absent', 'no.one'))"
            ),
            "*info.packages must name what can be imported, found absent, no.one",
        ),
    ],
    ids=["none", "raises", "verb", "capability", "cacheable", "packages"],
)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_adapter_that_is_wrong_stops_collection(
    stage: Stage, adapter: str | None, problem: str, workers: str
) -> None:
    stage.clauses(BOTH)
    if adapter is not None:
        stage.write("odd_adapter.py", adapter)

    shown = stage.run("-n", workers, impl="odd_adapter")

    assert shown.ret == pytest.ExitCode.USAGE_ERROR
    lines = [
        line for line in (*shown.outlines, *shown.errlines) if line.startswith("ERROR")
    ]
    assert len(lines) == 1
    pytest.LineMatcher(lines).fnmatch_lines([f"ERROR: {problem}"])


def test_part_of_the_suite_may_leave_clauses_without_a_test(stage: Stage) -> None:
    stage.clauses('@clause("CAP-01")\ndef test_one(): ...')

    shown = stage.run("-k", "one")

    assert shown.ret == pytest.ExitCode.OK


def test_profile_chooses_clauses(stage: Stage) -> None:
    stage.clauses(BOTH)

    run = stage.results("--aoti-profile=dynamic")

    assert outcomes(run) == {"test_two": "unsupported"}
    assert run.verdicts["core"].verdict == "incomplete"


def test_foreign_tests_are_untouched(stage: Stage) -> None:
    stage.write(
        "test_foreign.py",
        """
        import os, sys
        import pytest

        @pytest.fixture(scope="session")
        def shared():
            yield {"pid": os.getpid()}
            open("torn-down", "a").write("once ")

        @pytest.mark.clause("a clause of their own")
        def test_first(shared, cache):
            assert type(cache).__module__ == "_pytest.cacheprovider"

        def test_skips():
            pytest.skip("as it likes")
        """,
    )
    stage.write("z_test.py", "from test_foreign import shared\ndef test_z(shared): ...")
    stage.clauses(BOTH)

    shown = stage.run("test_foreign.py", "clauses", "z_test.py", "-p", "cacheprovider")

    shown.assert_outcomes(passed=3, skipped=1)
    assert (stage.pytester.path / "torn-down").read_text() == "once once "


def test_plugin_does_not_import_what_foreign_tests_do_not_need(stage: Stage) -> None:
    stage.write(
        "test_foreign.py",
        """
        import sys

        def test_imports():
            heavy = {"torch", "rich", "jsonschema", "diffusers", "numpy"}
            assert "conformance.plugin" in sys.modules
            assert not heavy & set(sys.modules)
        """,
    )

    shown = stage.run("test_foreign.py", "-p", "no:hypothesispytest")

    shown.assert_outcomes(passed=1)
