"""The command `fuzz` and its file."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

import conformance
from conformance import fuzz_results
from conformance.cli import main
from conformance.exit_codes import ExitCode
from conformance.fuzz_results import Case, Finding, Tally
from conformance.lines import BrokenResults

if TYPE_CHECKING:
    from collections.abc import Callable

_ADAPTER = """
import os, signal
import torch
from conformance.adapter import Info, Refused

info = Info("small", "1.0", "https://example.org", "https://example.org/issues")
capabilities = frozenset()

def capture(*args): ...
def compile(exported, *, options=None): return exported

def export(module, call, *, dynamic=None):
    if type(module).__name__ == "Chosen":
        raise Refused("not this one")
    return type(module).__name__

def apply(compiled, module):
    inner = module.forward
    module.forward = lambda *args, **kwargs: answer(inner, args, kwargs)
"""
_HONEST = "def answer(inner, args, kwargs): return inner(*args, **kwargs)"
_WRONG = "def answer(inner, args, kwargs): return inner(*args, **kwargs) + 1e-2"
_DIES = """
def answer(inner, args, kwargs):
    if args and isinstance(args[0], torch.Tensor) and args[0].dtype != torch.float32:
        os.kill(os.getpid(), signal.SIGSEGV)
    return inner(*args, **kwargs)
"""


@pytest.fixture
def fuzzed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command on a small adapter, by what it answers."""

    def run(answer: str, *options: str) -> Result:
        name = f"fuzzed_{abs(hash((tmp_path, answer)))}"
        text = dedent(_ADAPTER) + dedent(answer)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        where = ["--impl", name, "--cache", str(tmp_path / "cache"), "-j", "1"]
        return CliRunner().invoke(main, ["fuzz", *where, *options])

    return run


def test_command_ends_well_where_nothing_is_wrong(
    fuzzed: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "fuzz.jsonl"

    told = fuzzed(_HONEST, "--subject", "many", "--calls", "40", "--output", str(path))

    run = fuzz_results.read(path)
    assert told.exit_code == 0, told.output
    assert sum(run.tally.total.values()) == 40
    assert run.findings == []
    assert run.name == "small 1.0"


def test_command_counts_and_repeats_what_is_wrong(
    fuzzed: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "fuzz.jsonl"

    told = fuzzed(_WRONG, "--subject", "many", "--calls", "30", "--output", str(path))

    run = fuzz_results.read(path)
    wrong = run.tally.total[fuzz_results.WRONG]
    assert told.exit_code == 1
    assert wrong == len(run.findings) > 0
    assert f"{wrong}" in told.output
    assert run.findings[0]["command"] in told.output
    words = shlex.split(run.findings[0]["command"])
    assert words[:2] == ["aoti-conformance", "fuzz"]
    assert fuzzed(_WRONG, *words[4:]).exit_code == 1


def test_crashes_cost_one_call_each(fuzzed: Callable[..., Result]) -> None:
    told = fuzzed(_DIES, "--subject", "many", "--calls", "60")

    crashed = [line for line in told.output.splitlines() if line.startswith("crashed")]
    assert told.exit_code == 1
    assert crashed
    assert all("SIGSEGV" in line for line in crashed)
    assert " 60 " in told.output.split("\n all")[1]


def test_what_is_not_compiled_is_named(fuzzed: Callable[..., Result]) -> None:
    some = fuzzed(_HONEST, "--subject", "chosen", "--subject", "many", "--calls", "10")
    none = fuzzed(_HONEST, "--subject", "chosen", "--calls", "10")

    assert some.exit_code == 0  # as docs/exit-codes.md has it
    assert "chosen was not compiled: " in some.output
    assert "not this one" in some.output
    assert none.exit_code == 4


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--subject", "nothing"], "--subject=nothing"),
        (["--case", "nothing", "1"], "--case=nothing"),
        (["--case", "rank", "1"], "--subject"),
        (["--output", "/nowhere/fuzz.jsonl"], "--output=/nowhere/fuzz.jsonl"),
        (["--impl", "no_such_adapter"], "--impl=no_such_adapter"),
    ],
)
def test_bad_input_is_one_sentence(options: list[str], word: str) -> None:
    told = CliRunner().invoke(main, ["fuzz", *options])

    assert told.exit_code == 4
    assert word in told.output
    assert "Traceback" not in told.output


def findings() -> list[Finding]:
    return [
        Finding(Case("many", "rank", 1), fuzz_results.REFUSED),
        Finding(Case("many", "rank", 2), fuzz_results.WRONG, "off by one"),
    ]


def written(path: Path) -> fuzz_results.FuzzRun:
    tally = Tally()
    for finding in findings():
        tally.add(finding)
    versions = {"versions": {"torch": "2.13.0"}}
    made = {"implementation": {"name": "small", "version": "1.0"}}
    header = {**made, "environment": versions, "not_compiled": {}}
    fuzz_results.write(
        path, header, findings(), tally, lambda case: f"again {case.seed}"
    )
    return fuzz_results.read(path)


def test_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = written(tmp_path / "fuzz.jsonl")

    assert run.tally.total == {fuzz_results.REFUSED: 1, fuzz_results.WRONG: 1}
    assert not run.tally.clean
    assert [entry["command"] for entry in run.findings] == ["again 2"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["fuzz.jsonl"]


def test_report_shows_a_fuzz(tmp_path: Path) -> None:
    written(tmp_path / "fuzz.jsonl")
    board = tmp_path / "board.md"

    told = CliRunner().invoke(
        main, ["report", str(tmp_path / "fuzz.jsonl"), "--markdown", str(board)]
    )

    assert told.exit_code == 0, told.output
    assert "small 1.0: fuzz" in told.output
    assert "| small 1.0 | 2.13.0 | 2 |  | 1 |" in board.read_text().replace("   ", "  ")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: lines[:-1],
        lambda lines: [*lines[:1], "{", *lines[2:]],
        lambda lines: [lines[0], "[]", *lines[2:]],
        lambda lines: [*lines[:-1], json.dumps({"kind": "footer"})],
        lambda lines: [line.replace('"versions"', '"version"') for line in lines],
        lambda lines: [line.replace('"implementation"', '"made"') for line in lines],
        lambda lines: [line.replace('"wrong"', '"odd"') for line in lines],
        lambda lines: [line.replace(": 1", ': "1"') for line in lines],
        lambda lines: [line.replace("fuzz/1", "fuzz/2") for line in lines],
        lambda lines: [*lines[:1], "[" * 100_000, *lines[1:]],
    ],
)
def test_damaged_file_is_named(
    tmp_path: Path, spoil: Callable[[list[str]], list[str]]
) -> None:
    path = tmp_path / "fuzz.jsonl"
    written(path)
    path.write_text("\n".join(spoil(path.read_text().splitlines())))

    with pytest.raises(BrokenResults, match=r"fuzz\.jsonl:\d"):
        fuzz_results.read(path)
    assert CliRunner().invoke(main, ["report", str(path)]).exit_code == 4


def test_a_python_that_leaves_asserts_out_makes_no_calls(tmp_path: Path) -> None:
    (tmp_path / "honest.py").write_text(dedent(_ADAPTER) + _HONEST, encoding="utf-8")
    command = "-m", "conformance.cli", "fuzz", "--impl=honest", "--calls=1"
    paths = os.pathsep.join([str(Path(conformance.__file__).parents[1]), str(tmp_path)])

    done = subprocess.run(
        [sys.executable, "-O", *command],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == ExitCode.PROBLEM
    assert "leaves out `assert`" in done.stderr
