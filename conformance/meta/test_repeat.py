"""Repetition finds what does not always end the same way."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from conformance import measured
from conformance.meta import repeat
from conformance.results import Result, Run

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.meta.conftest import Stage

FICKLE = """
@clause("CAP-01")
def test_one():
    from pathlib import Path
    seen = Path("seen")
    seen.write_text((seen.read_text() if seen.exists() else "") + "x")
    assert seen.read_text() != "xx", "the second time is different"

@clause("CAP-02")
def test_two(): ...
"""


def run(stage: Stage, clauses: str, *arguments: str) -> pytest.RunResult:
    stage.clauses(clauses)
    program = sys.executable, "-m", "conformance.meta.repeat", "--times=2"
    suite = "--", "clauses", "--aoti-impl=small_adapter"
    return stage.pytester.run(*program, *arguments, *suite)


def made(*results: Result) -> Run:
    plan = {"x::test_one": "CAP-01"}
    return Run({"started": "today"}, {}, plan, list(results))


PASS = Result("x::test_one", "CAP-01", "pass", "call", 0.1, "", "")


def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repeat.main([f"--write={tmp_path / 'no' / 'such'}"]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(SystemExit):
        repeat.main(["--times=0"])
    assert "'0' is no number from 1 on" in capsys.readouterr().err


def test_equal_outcomes_are_good(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def once(arguments: list[str]) -> Run:
        asked.append(arguments)
        return made(PASS)

    monkeypatch.setattr(repeat, "_once", once)

    assert repeat.main(["--times=3"]) == 0
    assert "3 times 1 tests: 0 that differ" in capsys.readouterr().out
    assert len(asked) == 3
    assert "--aoti-clause=PRC-01" in asked[0]


def test_an_outcome_that_differs_is_told(stage: Stage) -> None:
    ended = run(stage, FICKLE, "--write=flaky.json")

    assert ended.ret == 1
    ended.stdout.fnmatch_lines(
        [
            "*::test_one: 1 pass, 1 fail",
            "  fail: *the second time is different*",
            "2 times 2 tests: 1 that differ",
        ]
    )
    kept = json.loads((stage.pytester.path / "flaky.json").read_text())
    (told,) = kept["figures"]["differing"].values()
    assert told["outcomes"] == {"pass": 1, "fail": 1}
    (check,) = measured.read(stage.pytester.path / "flaky.json").checks
    assert (check.found, check.good) == ("1", False)


def test_a_test_without_a_result_differs() -> None:
    found = repeat.differing([made(PASS), made()])

    assert found["x::test_one"]["outcomes"] == {"pass": 1, "missing": 1}


def test_a_run_without_results_is_no_success(stage: Stage) -> None:
    ended = run(stage, "import nothing_of_that_name\n")

    assert ended.ret == 4
    ended.stderr.fnmatch_lines(["*nothing_of_that_name*"])
