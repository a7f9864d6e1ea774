"""A project with settings of its own, and the suite within it."""

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


def test_names_of_its_own_are_for_its_own_tests(stage: Stage) -> None:
    stage.write(
        "pytest.ini",
        """
        [pytest]
        python_files = check_*.py
        python_functions = check_*
        python_classes = *
        """,
    )
    stage.clauses(f"{BOTH}\nclass Helper:\n    def check_none(self): ...")
    stage.write("test_not.py", "def test_not(): assert False")
    stage.write("check_own.py", "def check_own(): ...\ndef test_not(): assert False")

    run = stage.results()

    assert outcomes(run) == {"test_one": "pass", "test_two": "unsupported"}
    stage.run().assert_outcomes(passed=2)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_warnings_that_it_makes_errors_of_are_none(stage: Stage, workers: str) -> None:
    stage.write(
        "pytest.ini",
        """
        [pytest]
        addopts = --strict-markers --strict-config
        filterwarnings = error
        xfail_strict = true
        """,
    )
    warn = "import warnings\nwarnings.warn('old', DeprecationWarning)\n"
    stage.write("warning_adapter.py", f"{warn}from small_adapter import *")
    stage.clauses(f"{warn}{BOTH}")

    shown = stage.run("-n", workers, impl="warning_adapter")

    assert shown.ret == pytest.ExitCode.OK
    shown.assert_outcomes(passed=1)


def test_a_fresh_python_makes_no_errors_of_them_either(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    stage.clauses(
        """
        from conformance.fresh import fresh_python

        WARNING = "import warnings; warnings.warn('old'); result = 3"

        @clause("CAP-01")
        def test_one():
            assert fresh_python(WARNING).value == 3

        @clause("CAP-02")
        def test_two(): ...
        """
    )

    assert outcomes(stage.results())["test_one"] == "pass"


def test_its_timeout_is_for_its_own_tests(stage: Stage) -> None:
    stage.write(
        "clauses/conftest.py",
        """
        # What pytest-timeout does, as far as it can be seen from here.
        def pytest_configure(config):
            config.pluginmanager.register(object(), "timeout")
            config.addinivalue_line("markers", "timeout(seconds): ends a test")

        def pytest_runtest_setup(item):
            assert item.get_closest_marker("timeout").args == (0,)
        """,
    )
    stage.clauses(BOTH)

    assert outcomes(stage.results("clauses"))["test_one"] == "pass"


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("name", ["--aoti-cache", "TMPDIR"])
def test_a_folder_in_which_torch_cannot_compile_stops_the_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str, workers: str
) -> None:
    stage.clauses(BOTH)
    place = stage.write("of mine/file", "").parent
    arguments = [f"--aoti-cache={place}"] if name == "--aoti-cache" else []
    monkeypatch.setenv("TMPDIR", str(stage.pytester.path if arguments else place))

    shown = stage.run("-n", workers, *arguments)

    assert shown.ret == pytest.ExitCode.USAGE_ERROR
    lines = [*shown.outlines, *shown.errlines]
    told = [line for line in lines if line.startswith("ERROR")]
    assert len(told) == 1
    assert told[0].startswith(f"ERROR: {name}: torch cannot compile in '{place}'")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_python_that_leaves_asserts_out_stops_the_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    stage.clauses(BOTH)
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")

    shown = stage.run("-n", workers)

    assert shown.ret == pytest.ExitCode.USAGE_ERROR
    lines = [*shown.outlines, *shown.errlines]
    told = [line for line in lines if line.startswith("ERROR")]
    assert len(told) == 1
    assert told[0].startswith("ERROR: this Python leaves out `assert`")
