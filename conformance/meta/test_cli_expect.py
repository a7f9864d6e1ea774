"""The command `expect`: it writes known deviations, and no run takes them unread."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from conformance import deviations, spec
from conformance.cli import main
from conformance.deviations import BadDeviations, Deviation
from conformance.meta.runs import HEADER, ONE, small_run, write

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.meta.conftest import Stage
    from conformance.results import Run

HEAD = "# Known deviations of small.\n\n"
KNOWN = '[CAP-02]\nkind = "upstream"  # theirs\nreason = "known"\nsee = "there"\n'


def run_of(clauses: dict[str, dict[str, str]], **header: Any) -> Run:
    """A run with an outcome per test, by clause."""
    results = [
        replace(ONE, id=f"t::{test}", clause=clause, outcome=outcome, message="because")
        for clause, tests in clauses.items()
        for test, outcome in tests.items()
    ]
    found = [result for result in results if result.outcome != "missing"]
    plan = {result.id: result.clause for result in results}
    whole = replace(small_run("pass"), header={**HEADER, **header})
    return replace(whole, plan=plan, results=found)


def expect(folder: Path, text: str, run: Run) -> tuple[str, str]:
    """Update a file that says `text`; return what it says then, and what was told."""
    path = folder / "known.toml"
    path.write_text(text)
    results = write(folder / "out.jsonl", run)
    done = CliRunner().invoke(main, ["expect", "--update", str(path), str(results)])
    assert done.exit_code == 0, done.output
    return path.read_text(), done.output


def entries(folder: Path) -> list[Deviation]:
    path = folder / "known.toml"
    return deviations.parse(path, path.read_text(), spec.catalogue())


def test_new_deviation_is_added_in_its_place_and_unreviewed(tmp_path: Path) -> None:
    run = run_of(
        {
            "CAP-01": {"test_a": "fail", "test_b": "crash"},
            "CAP-02": {"test_c": "xfail"},
            "CAP-03": {"test_d[x::y]": "fail", "test_e": "pass"},
        }
    )

    text, told = expect(tmp_path, HEAD + KNOWN, run)

    first, second, third = entries(tmp_path)
    assert text.startswith(HEAD)
    assert KNOWN in text
    assert (first.clause, second.clause, third.clause) == ("CAP-01", "CAP-02", "CAP-03")
    assert (first.reason, first.tests) == ("unreviewed: because", ())
    assert third.tests == ("test_d[x::y]",)
    assert [entry.reviewed for entry in entries(tmp_path)] == [False, True, False]
    assert "added CAP-03 (test_d[x::y]): because" in told


def test_deviation_that_is_gone_is_dropped(tmp_path: Path) -> None:
    run = run_of({"CAP-02": {"test_c": "pass", "test_d": "pass"}})

    text, told = expect(tmp_path, HEAD + KNOWN, run)

    assert text == HEAD.rstrip() + "\n"
    assert "dropped CAP-02: deviates no more" in told


@pytest.mark.parametrize(
    ("outcomes", "header"),
    [
        ({"test_c": "pass"}, {"cut": ["CAP-02"]}),
        ({"test_c": "pass", "test_d": "missing"}, {}),
        ({"test_c": "pass", "test_d": "blocked"}, {}),
        ({"test_c": "unsupported"}, {}),
        ({"test_c": "fail"}, {}),
    ],
    ids=["cut", "missing", "blocked", "unsupported", "fails"],
)
def test_deviation_of_which_not_all_passed_is_kept(
    tmp_path: Path, outcomes: dict[str, str], header: dict[str, Any]
) -> None:
    text, told = expect(tmp_path, HEAD + KNOWN, run_of({"CAP-02": outcomes}, **header))

    assert text == HEAD + KNOWN
    assert told == "nothing changed\n"


def test_named_tests_come_and_go(tmp_path: Path) -> None:
    text = HEAD + KNOWN + 'tests = ["test_c", "test_d", "test_gone"]\n'
    run = run_of({"CAP-02": {"test_c": "xpass", "test_d": "xfail", "test_e": "fail"}})

    _, told = expect(tmp_path, text, run)

    (entry,) = entries(tmp_path)
    assert entry.tests == ("test_d", "test_gone", "test_e")
    assert entry.reason == "unreviewed, test_e came (because): known"
    assert not entry.reviewed
    assert "changed CAP-02: test_c passes, test_e deviates, too" in told


def test_named_tests_that_all_pass_take_their_entry_along(tmp_path: Path) -> None:
    text = HEAD + KNOWN + 'tests = ["test_c"]\n'

    expect(tmp_path, text, run_of({"CAP-02": {"test_c": "xpass", "test_d": "pass"}}))

    assert entries(tmp_path) == []


def test_flaky_entry_outlives_a_run_that_passes(tmp_path: Path) -> None:
    flaky = (HEAD + KNOWN).replace("upstream", "flaky")

    text, _ = expect(tmp_path, flaky, run_of({"CAP-02": {"test_c": "pass"}}))

    assert text == flaky


def test_entry_for_elsewhere_is_left_alone(tmp_path: Path) -> None:
    elsewhere = KNOWN + 'when = { device = "cuda*" }\n'
    passing = run_of({"CAP-02": {"test_c": "pass"}})
    failing = run_of({"CAP-02": {"test_c": "fail"}})

    kept, _ = expect(tmp_path, HEAD + elsewhere, passing)
    expect(tmp_path, HEAD + elsewhere, failing)
    there, here = entries(tmp_path)

    assert kept == HEAD + elsewhere
    assert (there.when.device, there.reason) == ("cuda*", "known")
    assert (here.when.device, here.reviewed) == ("cpu", False)


@pytest.mark.parametrize(
    "when",
    [
        'device = "cuda*"',
        'platform = "Windows*"',
        'versions = { torch = "<2.13", python = ">=3.10" }',
        'device = "c*", versions = { torch = ">2.13" }',
    ],
)
def test_an_entry_beside_one_for_elsewhere_holds_here_alone(
    tmp_path: Path, when: str
) -> None:
    elsewhere = f"{KNOWN}when = {{ {when} }}\n"

    expect(tmp_path, HEAD + elsewhere, run_of({"CAP-02": {"test_c": "fail"}}))
    there, here = (entry.when for entry in entries(tmp_path))

    environment = HEADER["environment"]
    assert (there.holds(environment), here.holds(environment)) == (False, True)
    places = [
        {**environment, "device": device, "platform": platform, "versions": versions}
        for device in ("cpu", "cuda")
        for platform in ("Linux", "Windows-11")
        for versions in ({"torch": "2.12.0"}, {"torch": "2.13.0"}, {"torch": "2.14"})
    ]
    assert not any(there.holds(place) and here.holds(place) for place in places)


def test_one_of_several_entries_is_dropped(tmp_path: Path) -> None:
    two = KNOWN.replace("[CAP-02]", "[[CAP-02]]")
    text = f'{HEAD}{two}when = {{ device = "cpu" }}\n\n{two}when.device = "cuda"\n'

    expect(tmp_path, text, run_of({"CAP-02": {"test_c": "pass"}}))

    (left,) = entries(tmp_path)
    assert left.when.device == "cuda"


def test_update_of_an_update_changes_nothing(tmp_path: Path) -> None:
    run = run_of({"CAP-01": {"test_a": "fail"}, "CAP-03": {"b": "fail", "c": "pass"}})

    once, _ = expect(tmp_path, "", run)
    twice, told = expect(tmp_path, once, run)

    assert twice == once
    assert told == "nothing changed\n"


def test_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    results = write(tmp_path / "out.jsonl", run_of({"CAP-01": {"test_a": "fail"}}))

    done = CliRunner().invoke(main, ["expect", "--update", str(path), str(results)])

    assert done.exit_code == 0
    assert path.read_text().startswith("# Known deviations of small, by clause.")
    assert len(entries(tmp_path)) == 1


def test_what_was_written_is_refused_until_it_is_reviewed(
    stage: Stage, tmp_path: Path
) -> None:
    stage.clauses("""
        @clause("CAP-01")
        def test_one():
            assert False, "the reason"

        @clause("CAP-02")
        def test_two(): ...
    """)
    known = stage.pytester.path / "known.toml"
    results = stage.pytester.path / "out.jsonl"

    stage.run("--aoti-report=out.jsonl")
    CliRunner().invoke(main, ["expect", "--update", str(known), str(results)])
    refused = stage.run("--aoti-expected=known.toml")
    text = known.read_text().replace("unreviewed: ", "it is ")
    half = text.replace('"unreviewed"', '"Unreviewed by anybody"')
    reviewed = text.replace('"unreviewed"', '"https://example.org/1"')
    known.write_text(reviewed)
    accepted = stage.run("--aoti-expected=known.toml")

    (tmp_path / "half.toml").write_text(half)
    with pytest.raises(BadDeviations, match="nobody has reviewed CAP-01"):
        deviations.read(tmp_path / "half.toml", ["CAP-01"], HEADER["environment"])
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["ERROR: known.toml: nobody has reviewed CAP-01: *"])
    assert accepted.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("text", "header", "problem"),
    [
        ("[CAP-01\n", {}, "cannot be read"),
        ("[XYZ-99]\nreason = 'r'\nsee = 's'\n", {}, "SPEC.md has no XYZ-99"),
        ("", {"shard": {"group": 1, "splits": 2}}, "one group of several"),
    ],
    ids=["toml", "id", "shard"],
)
def test_what_cannot_be_used_is_one_sentence(
    tmp_path: Path, text: str, header: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "known.toml"
    path.write_text(text)
    run = run_of({"CAP-01": {"test_a": "fail"}}, **header)
    results = write(tmp_path / "out.jsonl", run)

    done = CliRunner().invoke(main, ["expect", "--update", str(path), str(results)])

    assert done.exit_code == 4
    assert problem in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert path.read_text() == text
