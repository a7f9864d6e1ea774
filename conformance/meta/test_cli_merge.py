"""The command `merge`: shards of one run become one file, or it is said why not."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from conformance import deviations
from conformance.cli import main
from conformance.meta.conftest import outcomes
from conformance.meta.runs import HEADER, ONE, small_run, write
from conformance.results import Run, read
from conformance.selection import digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conformance.meta.conftest import Stage

CLAUSES = """
@clause("CAP-01")
@pytest.mark.parametrize("number", range(6))
def test_one(number):
    if number == 3 and os.path.exists("deadly"):
        os.kill(os.getppid(), signal.SIGKILL)
    assert number != 1

@clause("CAP-02")
def test_two(): ...
"""


def merge(folder: Path, *names: str) -> Result:
    files = [str(folder / name) for name in names if not name.startswith("-")]
    options = [name for name in names if name.startswith("-")]
    target = str(folder / "merged.jsonl")
    return CliRunner().invoke(main, ["merge", *files, *options, "-o", target])


def test_three_groups_of_which_one_was_killed(stage: Stage) -> None:
    stage.clauses(CLAUSES)
    deadly = stage.write("deadly", "")
    folder = stage.pytester.path
    whole = ["1.jsonl", "2.jsonl", "3.jsonl"]

    def run(group: int) -> int:
        options = "--splits=3", f"--group={group}", f"--aoti-report={group}.jsonl"
        return int(stage.run(*options).ret)

    codes = [run(group) for group in (1, 2, 3)]
    refused = merge(folder, *whole)
    taken = merge(folder, *whole, "--incomplete")
    cut_short = read(folder / "merged.jsonl")
    shown = CliRunner().invoke(main, ["report", str(folder / "2.jsonl")])
    deadly.unlink()
    run(2)
    done = merge(folder, "3.jsonl", "1.jsonl", "2.jsonl")
    merged = read(folder / "merged.jsonl")

    assert codes == [1, -signal.SIGKILL, 0]
    assert refused.exit_code == 4
    assert refused.output.startswith(f"Error: {folder / '2.jsonl'} was cut short (")
    assert len(refused.output.splitlines()) == 1
    assert taken.exit_code == 0
    assert not cut_short.complete
    assert "cut short" in shown.output
    assert done.exit_code == 0, done.output
    assert merged.complete
    assert outcomes(merged) == {
        **{f"test_one[{number}]": "pass" for number in (0, 2, 3, 4, 5)},
        "test_one[1]": "fail",
        "test_two": "unsupported",
    }
    assert merged.header["shard"]["splits"] == 1
    assert [entry["group"] for entry in merged.header["merged"]] == [1, 2, 3]


def test_header_says_what_a_selection_left_out(stage: Stage) -> None:
    stage.clauses(CLAUSES)
    stage.write("known.toml", "[CAP-01]\nreason = 'five'\nsee = 'nowhere'\n")

    run = stage.results("-k", "5 or two", "--aoti-expected=known.toml")

    assert run.header["cut"] == ["CAP-01"]
    assert run.header["expected"] == ["CAP-01"]
    assert run.header["expectations"] != deviations.digest({})
    assert run.header["shard"]["tests"] == 2
    assert run.header["shard"]["digest"] == digest(run.plan)


def group(number: int, splits: int = 2, **more: Any) -> Run:
    """A group with one test of CAP-01; what differs from the others is `more`."""
    tests = [f"t::test_{index}" for index in range(1, splits + 1)]
    shard: dict[str, Any] = {"group": number, "splits": splits, "tests": splits}
    shard["digest"] = digest(tests)
    test = f"t::test_{number}"
    return replace(
        small_run("pass"),
        header={**HEADER, "shard": shard, "expectations": "0" * 64, **more},
        plan={test: "CAP-01"},
        results=[replace(ONE, id=test)],
    )


def there(**more: Any) -> dict[str, Any]:
    return {"environment": {**HEADER["environment"], **more}}


def made_by(**more: Any) -> dict[str, Any]:
    return {"implementation": {**HEADER["implementation"], **more}}


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (group(1), "are both group 1 of 2"),
        (group(2, catalogue="1" * 64), f"catalogue: {'0' * 64} and {'1' * 64}"),
        (group(2, seed=3), "seed: 0 and 3"),
        (group(2, **made_by(name="large")), "implementation's name: small and large"),
        (group(2, **made_by(version="1.1")), "implementation's version: 1.0 and 1.1"),
        (
            group(2, **made_by(capabilities=["fp8"])),
            "implementation's capabilities: none and fp8",
        ),
        (group(2, **there(device="cuda")), "device: cpu and cuda"),
        (group(2, **there(python="3.13.1")), "Python: 3.11.7 and 3.13.1"),
        (
            group(2, **there(versions={"torch": "2.11.0"})),
            "versions: torch 2.13.0 and torch 2.11.0",
        ),
        (group(2, expected=["CAP-01"]), "expectations: none and CAP-01"),
        (
            group(2, expectations="1" * 64),
            f"known deviations, by their digest: {'0' * 64} and {'1' * 64}",
        ),
        (group(2, splits=3), "number of groups: 2 and 3"),
        (replace(group(2), plan=group(1).plan, results=[]), "both planned t::test_1"),
        (
            replace(group(2), plan={"t::test_x": "CAP-01"}, results=[]),
            "together they planned 2 tests, which are not the 2 that",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_of_one_run_is_refused(
    tmp_path: Path, other: Run, problem: str
) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    write(one, group(1))
    write(two, other)

    done = merge(tmp_path, "one.jsonl", "two.jsonl", "--incomplete")

    assert done.exit_code == 4
    assert problem in done.output
    assert str(one) in done.output
    assert str(two) in done.output
    assert len(done.output.splitlines()) == 1
    assert not (tmp_path / "merged.jsonl").exists()


def test_missing_group_is_named(tmp_path: Path) -> None:
    write(tmp_path / "one.jsonl", group(1, splits=3))

    done = merge(tmp_path, "one.jsonl")

    path = tmp_path / "one.jsonl"
    assert done.exit_code == 4
    assert done.output == f"Error: {path}: groups 2, 3 of 3 not among them\n"


@pytest.mark.parametrize(
    "harmless",
    [
        there(cpus=64),
        there(gpus=["NVIDIA H200"]),
        there(platform="Linux-6.9"),
        {"started": "2026-01-01T00:00:00+00:00"},
    ],
    ids=["cpus", "gpus-of-a-cpu-run", "kernel", "time"],
)
def test_what_does_not_matter_may_differ(
    tmp_path: Path, harmless: dict[str, Any]
) -> None:
    write(tmp_path / "one.jsonl", group(1))
    write(tmp_path / "two.jsonl", group(2, **harmless))

    done = merge(tmp_path, "one.jsonl", "two.jsonl")

    assert done.exit_code == 0, done.output


def test_gpus_matter_where_tests_run_on_them(tmp_path: Path) -> None:
    devices = [there(device="cuda", gpus=[name] * 2) for name in ("H100", "H200")]
    for number, device in enumerate(devices, 1):
        write(tmp_path / f"{number}.jsonl", group(number, **device))

    done = merge(tmp_path, "1.jsonl", "2.jsonl")

    assert "differ in GPUs: H100 and H200" in done.output


def test_deviation_that_no_group_could_call_gone_is_found(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path / f"{number}.jsonl", group(number, expected=["CAP-01"]))

    done = merge(tmp_path, "1.jsonl", "2.jsonl")
    merged = read(tmp_path / "merged.jsonl")

    assert done.exit_code == 1
    assert "ERROR: CAP-01 deviates no more" in done.output
    assert merged.footer is not None
    assert merged.footer["stale"] == ["CAP-01"]


def test_result_can_take_the_place_of_a_shard(tmp_path: Path) -> None:
    path = write(tmp_path / "one.jsonl", group(1, splits=1))

    done = CliRunner().invoke(main, ["merge", str(path), "-o", str(path)])

    assert done.exit_code == 0, done.output
    assert read(path).complete
    assert list(tmp_path.iterdir()) == [path]


def test_output_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "one.jsonl", group(1, splits=1))
    target = tmp_path / "no" / "merged.jsonl"

    done = CliRunner().invoke(main, ["merge", str(path), "-o", str(target)])

    assert done.exit_code == 4
    assert done.output.startswith(f"Error: --output={target}: cannot be written")


@pytest.mark.parametrize("spoil", [str.upper, lambda text: text[:30]])
def test_file_that_is_no_result_is_one_sentence(
    tmp_path: Path, spoil: Callable[[str], str]
) -> None:
    path = write(tmp_path / "one.jsonl", group(1, splits=1))
    path.write_text(spoil(path.read_text()))

    done = merge(tmp_path, "one.jsonl")

    assert done.exit_code == 4
    assert done.output.startswith(f"Error: {path}:")
    assert len(done.output.splitlines()) == 1
