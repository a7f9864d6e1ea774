"""Known deviations are strict both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.meta.conftest import outcomes

if TYPE_CHECKING:
    from conformance.meta.conftest import Stage

CLAUSES = """
@clause("CAP-01")
@pytest.mark.parametrize("model", ["flux", "wan"])
def test_one(model):
    assert model != "wan"

@clause("CAP-02")
def test_two(): ...
"""

ENTRY = """
[CAP-01]
reason = "wan is different"
see = "https://example.org/issues/1"
"""


def test_expected_deviation_of_a_clause_is_xfail(stage: Stage) -> None:
    stage.clauses(CLAUSES)
    stage.write("known.toml", ENTRY)

    shown = stage.run("--aoti-expected=known.toml", "-v")
    run = stage.results("--aoti-expected=known.toml")

    assert shown.ret == pytest.ExitCode.OK
    shown.stdout.fnmatch_lines(
        ["*test_one?wan? DEVIATES*", "core * not conformant (1 xfail)"]
    )
    assert outcomes(run)["test_one[wan]"] == "xfail"
    assert outcomes(run)["test_one[flux]"] == "pass"


def test_expected_crash_is_xfail(stage: Stage) -> None:
    stage.clauses(CLAUSES.replace('assert model != "wan"', "os.abort()"))
    stage.write("known.toml", ENTRY)

    run = stage.results("--aoti-expected=known.toml")

    assert run.counts == {"xfail": 2, "unsupported": 1}


def test_expectation_of_a_clause_that_holds_is_stale(stage: Stage) -> None:
    stage.clauses(CLAUSES.replace('"wan"])', '"sd3"])'))
    stage.write("known.toml", ENTRY)

    shown = stage.run("--aoti-expected=known.toml", "--aoti-report=out.jsonl")

    assert shown.ret == pytest.ExitCode.TESTS_FAILED
    shown.stdout.fnmatch_lines(
        ["ERROR: CAP-01 deviates no more; remove its entry: wan is*"]
    )


def test_expectation_is_not_stale_while_some_of_its_tests_did_not_run(
    stage: Stage,
) -> None:
    stage.clauses(CLAUSES)
    stage.write("known.toml", ENTRY)

    shown = stage.run("--aoti-expected=known.toml", "-k", "flux")

    assert shown.ret == pytest.ExitCode.OK


def test_named_tests_are_strict_one_by_one(stage: Stage) -> None:
    stage.clauses(CLAUSES)
    stage.write("known.toml", f'{ENTRY}tests = ["test_one[flux]"]\n')

    shown = stage.run("--aoti-expected=known.toml", "--aoti-report=out.jsonl")
    run = stage.results("--aoti-expected=known.toml")

    assert shown.ret == pytest.ExitCode.TESTS_FAILED
    assert outcomes(run)["test_one[flux]"] == "xpass"
    assert outcomes(run)["test_one[wan]"] == "fail"


def test_flaky_deviation_may_pass(stage: Stage) -> None:
    stage.clauses(CLAUSES)
    both = 'tests = ["test_one[flux]", "test_one[wan]"]\n'
    stage.write("known.toml", f'{ENTRY}kind = "flaky"\n{both}')

    shown = stage.run("--aoti-expected=known.toml")

    assert shown.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("[CAP-99]\nreason = 'r'\nsee = 's'\n", "SPEC.md has no CAP-99"),
        ("[CAP-01]\nsee = 's'\n", "needs a reason, in words"),
        ("[CAP-01]\nreason = 'r'\n", "needs a see, in words"),
        (
            "[CAP-01]\nreason = 'r'\nsee = 's'\nkind = 'odd'\n",
            "kind must be one of bug*",
        ),
        (
            "[CAP-01]\nreason = 'r'\nsee = 's'\nwhy = 'w'\n",
            "keys that mean nothing: why",
        ),
        (
            "[CAP-01]\nreason = 'r'\nsee = 's'\ntests = ['test_x']\n",
            "CAP-01 has no test test_x",
        ),
        ("[CAP-01\n", "cannot be read"),
    ],
    ids=["id", "reason", "see", "kind", "key", "test", "toml"],
)
def test_expectation_that_makes_no_sense_stops_collection(
    stage: Stage, entry: str, problem: str
) -> None:
    stage.clauses(CLAUSES)
    stage.write("known.toml", entry)

    shown = stage.run("--aoti-expected=known.toml")

    assert shown.ret == pytest.ExitCode.USAGE_ERROR
    shown.stderr.fnmatch_lines([f"ERROR: *{problem}*"])
    shown.stderr.no_fnmatch_line("Traceback*")
