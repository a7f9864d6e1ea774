"""docs/exit-codes.md and the commands say the same."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from conformance import html_board
from conformance.cli import main
from conformance.exit_codes import ExitCode
from conformance.meta.runs import small_run, write

if TYPE_CHECKING:
    from conformance.meta.conftest import Stage

PAGE = Path(__file__).parents[2] / "docs" / "exit-codes.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below `heading`, without its head."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    table = re.search(r"(?:\|.*\n)+", section)
    assert table is not None
    return [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in table[0].splitlines()[2:]
    ]


def test_page_lists_every_code_by_its_name() -> None:
    told = [(int(code), name) for code, name, *_ in rows("The codes")]

    assert told == [(code.value, code.name) for code in ExitCode]


def test_codes_are_those_of_pytest() -> None:
    theirs = {
        ExitCode.OK: pytest.ExitCode.OK,
        ExitCode.FOUND: pytest.ExitCode.TESTS_FAILED,
        ExitCode.INTERRUPTED: pytest.ExitCode.INTERRUPTED,
        ExitCode.INTERNAL: pytest.ExitCode.INTERNAL_ERROR,
        ExitCode.PROBLEM: pytest.ExitCode.USAGE_ERROR,
        ExitCode.NOTHING: pytest.ExitCode.NO_TESTS_COLLECTED,
    }

    assert set(theirs) == set(ExitCode)
    assert all(int(ours) == int(code) for ours, code in theirs.items())


def test_page_lists_every_command() -> None:
    assert {row[0] for row in rows("The commands")} == {"pytest", *main.commands}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], ExitCode.OK),
        (["--version"], ExitCode.OK),
        (["clauses"], ExitCode.OK),
        (["clauses", "XYZ-99"], ExitCode.PROBLEM),
        ([], ExitCode.PROBLEM),
        (["no-such-command"], ExitCode.PROBLEM),
        (["merge"], ExitCode.PROBLEM),
        (["report", "no-such-file.jsonl"], ExitCode.PROBLEM),
        (["report", "--no-such-option"], ExitCode.PROBLEM),
        (["diff", "only-one.jsonl"], ExitCode.PROBLEM),
        (["expect", "no-such-file.jsonl"], ExitCode.PROBLEM),
        (["doctor", "--check", "no-such-check"], ExitCode.PROBLEM),
    ],
)
def test_commands_end_as_the_page_says(arguments: list[str], code: ExitCode) -> None:
    done = CliRunner().invoke(main, arguments)

    assert done.exit_code == code
    assert "Traceback" not in done.output


def test_interrupted_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(html_board, "read", stop)
    path = write(tmp_path / "out.jsonl", small_run("pass"))

    done = CliRunner().invoke(main, ["report", str(path)])

    assert done.exit_code == ExitCode.INTERRUPTED


def test_a_bug_of_a_command_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(_: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(html_board, "read", break_down)
    path = write(tmp_path / "out.jsonl", small_run("pass"))

    done = CliRunner().invoke(main, ["report", str(path)])

    assert done.exit_code == ExitCode.INTERNAL
    assert len(done.output.splitlines()) == 1
    assert "please report it" in done.output
    assert "KeyError: 'odd' (test_exit_codes.py:" in done.output


def test_pytest_that_finds_nothing_to_run_says_so(stage: Stage) -> None:
    stage.clauses('@clause("CAP-01")\ndef test_one(): ...')

    assert stage.run("-k", "nothing").ret == ExitCode.NOTHING


@pytest.mark.parametrize("name", main.commands)
def test_help_of_every_command_shows_examples(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"], terminal_width=100)

    assert done.exit_code == 0
    assert f"  aoti-conformance {name}" in done.output.partition("Examples:")[2]


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_of_run_has_the_options_of_the_suite_alone(option: str) -> None:
    done = CliRunner().invoke(main, ["run", option, "-khere"], terminal_width=100)

    assert done.exit_code == 0
    assert all(name in done.output for name in ("--aoti-impl=NAME", "--aoti-seed=N"))
    assert "--capture" not in done.output
    assert "`pytest --help` lists them" in done.output


def test_commands_are_a_module_that_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "conformance.cli", "clauses", "no-such"],
        check=False,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (4, "Error: SPEC.md has no NO-SUCH\n")
