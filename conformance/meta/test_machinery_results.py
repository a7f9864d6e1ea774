"""The results file, the board and the command line."""

from __future__ import annotations

import json
import sysconfig
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from conformance import board
from conformance.cli import main
from conformance.lines import BrokenResults
from conformance.meta.runs import HEADER, ONE, small_run, write
from conformance.results import Result, Run, read

if TYPE_CHECKING:
    from conformance.meta.conftest import Stage


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (("pass", "pass"), "conformant"),
        (("pass", "fail", "crash", "fail"), "not conformant (2 fail, 1 crash)"),
        (("pass", "xfail"), "not conformant (1 xfail)"),
        (("pass", "blocked"), "not conformant (1 blocked)"),
        (("pass", "unsupported"), "not conformant (1 unsupported)"),
        (("pass", "missing"), "incomplete (1 without a result)"),
    ],
)
def test_verdict_says_what_prevents_it(outcomes: tuple[str, ...], verdict: str) -> None:
    assert str(small_run(*outcomes).verdicts["all"]) == verdict


@pytest.mark.parametrize(
    ("header", "verdict"),
    [
        ({"cut": ["CAP-01"]}, "incomplete (1 of 2 clauses run in part)"),
        (
            {"shard": {"group": 2, "splits": 3}},
            "incomplete (only group 2 of 3)",
        ),
        ({"cut": []}, "conformant"),
    ],
    ids=["cut", "shard", "whole"],
)
def test_no_part_of_a_run_is_conformant(header: dict[str, Any], verdict: str) -> None:
    run = replace(small_run("pass", "pass"), header={**HEADER, **header})

    assert str(run.verdicts["all"]) == str(run.verdicts["core"]) == verdict


def test_leaving_out_a_failing_test_makes_nothing_conformant(stage: Stage) -> None:
    stage.clauses("""
        @clause("CAP-01")
        @pytest.mark.parametrize("number", range(2))
        def test_one(number):
            assert number
    """)

    run = stage.results("--deselect=clauses/test_small.py::test_one[0]")

    assert run.counts == {"pass": 1}
    assert str(run.verdicts["core"]) == "incomplete (1 of 1 clauses run in part)"
    assert "1 clauses run in part" in board.environment(run)


def test_results_survive_the_file(tmp_path: Path) -> None:
    run = small_run("pass", "fail", "crash")

    again = read(write(tmp_path / "out.jsonl", run))

    assert (again.header, again.plan, again.results) == (
        run.header,
        run.plan,
        run.results,
    )
    assert again.complete


def test_file_without_a_footer_reads_as_incomplete(tmp_path: Path) -> None:
    run = read(
        write(tmp_path / "out.jsonl", small_run("pass", "missing"), footer=False)
    )

    assert not run.complete
    assert run.missing == ["t::test_CAP-02"]


def test_line_that_a_kill_cut_through_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", small_run("pass", "pass"), footer=False)
    path.write_text(path.read_text()[:-40])

    run = read(path)

    assert run.missing == ["t::test_CAP-02"]


def test_file_of_a_run_that_died_early_says_so(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.touch()

    with pytest.raises(BrokenResults, match="killed before its plan was written"):
        read(path)


@pytest.mark.parametrize(
    ("line", "content", "problem"),
    [
        (1, "{}", "is no line of aoti-conformance/1"),
        (1, '{"kind": "plan", "clauses": {}, "tests": []}', "should be the header"),
        (3, "{", "is no JSON"),
        (3, '{"kind": "result", "id": "x"}', "'clause' is a required property"),
        (3, None, "'odd' is not one of"),
    ],
    ids=["kind", "header", "json", "property", "outcome"],
)
def test_broken_results_name_the_line(
    tmp_path: Path, line: int, content: str | None, problem: str
) -> None:
    path = write(tmp_path / "out.jsonl", small_run("pass"))
    lines = path.read_text().splitlines()
    lines[line - 1] = content or lines[line - 1].replace('"pass"', '"odd"')
    path.write_text("\n".join(lines))

    with pytest.raises(BrokenResults) as caught:
        read(path)

    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert problem in str(caught.value)


def test_workers_write_what_one_process_writes(stage: Stage) -> None:
    stage.clauses("""
        @clause("CAP-01")
        @pytest.mark.parametrize("number", range(4))
        def test_one(number):
            assert number != 1
            if number == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        @clause("CAP-02")
        def test_two(): ...
    """)

    alone, together = stage.results("-n", "0"), stage.results("-n", "2")

    assert together.plan == alone.plan
    assert together.verdicts == alone.verdicts
    assert alone.counts == {"pass": 2, "fail": 1, "crash": 1, "unsupported": 1}
    assert _told(together) == _told(alone)
    assert alone.complete
    assert together.complete


def _told(run: Run) -> dict[str, Result]:
    return {
        result.id: replace(result, seconds=0, peak_rss_mib=0) for result in run.results
    }


def test_results_file_that_cannot_be_written_stops_the_run(stage: Stage) -> None:
    stage.clauses('@clause("CAP-01")\ndef test_one(): ...')

    shown = stage.run("--aoti-report=no/such/folder/out.jsonl")

    assert shown.ret == pytest.ExitCode.USAGE_ERROR
    shown.stderr.fnmatch_lines(
        ["ERROR: --aoti-report=no/such/folder/out.jsonl: cannot be *"]
    )


def test_run_that_is_cut_short_is_incomplete(stage: Stage) -> None:
    stage.clauses("""
        @clause("CAP-01")
        def test_one():
            assert False

        @clause("CAP-02")
        def test_two(): ...
    """)

    run = stage.results("-x")

    assert run.missing == ["test_small::test_two"]
    assert not run.complete


def test_command_of_a_result_repeats_it(stage: Stage) -> None:
    stage.clauses("""
        @clause("CAP-01")
        @pytest.mark.parametrize("word", ["two words"])
        def test_one(word):
            assert False

        @clause("CAP-02")
        def test_two(): ...
    """)

    run = stage.results("--aoti-seed=3")

    assert run.results[0].command == (
        "python -m pytest --pyargs 'test_small::test_one[two words]' "
        "--aoti-impl=small_adapter --aoti-seed=3"
    )


def test_board_shows_runs_side_by_side() -> None:
    runs = [small_run("pass", "fail"), small_run("crash", "pass")]

    text, marked = board.terminal(runs, width=100), board.markdown(runs)

    assert "CAP-02   fail" in text
    assert "| CAP-01 | pass | crash |" in marked
    assert r"| CAP-02 | fail | so\|so |" in marked


def test_columns_of_one_name_are_told_apart() -> None:
    there = {**HEADER["environment"], "device": "cuda"}
    one, other = small_run("pass"), small_run("pass")
    other.header = {**HEADER, "environment": there}

    marked = board.markdown([one, other])

    assert (
        "| clause | small 1.0, cpu, torch 2.13.0 | small 1.0, cuda, torch 2.13.0 |"
        in marked
    )


def test_a_column_of_a_gpu_says_so() -> None:
    there = {**HEADER["environment"], "device": "cuda"}
    run = replace(small_run("pass"), header={**HEADER, "environment": there})

    assert board.labels([run]) == ["small 1.0, cuda, torch 2.13.0"]
    assert board.labels([small_run("pass")]) == ["small 1.0"]


def test_report_prints_the_board_and_writes_markdown(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", small_run("pass", "fail"))
    target = tmp_path / "board.md"

    done = CliRunner().invoke(main, ["report", str(path), f"--markdown={target}"])

    assert done.exit_code == 0
    assert "not conformant (1 fail)" in done.output
    assert "| CAP-02 | fail |" in target.read_text()


def test_report_of_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(json.dumps({"kind": "odd"}))

    done = CliRunner().invoke(main, ["report", str(path)])

    assert done.exit_code == 4
    assert done.output == f"Error: {path}:1: is no line of aoti-conformance/1\n"


@pytest.mark.parametrize(
    ("folder", "written"),
    [
        (sysconfig.get_paths()["purelib"], ""),
        (sysconfig.get_paths()["stdlib"], ""),
        (tempfile.gettempdir(), "$TMPDIR/"),
        (str(Path.home()), "~/"),
        (str(Path.cwd()), ""),
    ],
)
def test_results_name_no_folder_of_this_machine(
    tmp_path: Path, folder: str, written: str
) -> None:
    message = f'OSError: "{folder}/torch/hub.py" and {folder}/more, not x{folder}/y'
    found = replace(ONE, outcome="fail", message=message)
    run = replace(small_run("fail"), results=[found], plan={ONE.id: "CAP-01"})

    (result,) = read(write(tmp_path / "results.jsonl", run)).results

    wanted = f'OSError: "{written}torch/hub.py" and {written}more, not x{folder}/y'
    assert result.message == wanted
