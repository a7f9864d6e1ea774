"""The command `diff`: what got better and what got worse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from conformance.cli import main
from conformance.comparing import BETTER, CHANGED, GONE, NEW, WORSE, compare
from conformance.meta.runs import HEADER, ONE, small_run, write
from conformance.results import Run

if TYPE_CHECKING:
    from pathlib import Path


def diff(folder: Path, old: Run, new: Run, *options: str) -> Result:
    files = [
        str(write(folder / f"{name}.jsonl", run))
        for name, run in (("old", old), ("new", new))
    ]
    return CliRunner().invoke(main, ["diff", *files, *options])


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("fail", "pass", BETTER),
        ("xfail", "pass", BETTER),
        ("blocked", "pass", BETTER),
        ("crash", "fail", BETTER),
        ("missing", "pass", BETTER),
        ("pass", "fail", WORSE),
        ("pass", "blocked", WORSE),
        ("pass", "xfail", WORSE),
        ("pass", "missing", WORSE),
        ("pass", "xpass", WORSE),
        ("xfail", "fail", WORSE),
        ("unsupported", "fail", WORSE),
        ("fail", "crash", WORSE),
        ("error", "timeout", WORSE),
        ("fail", "xfail", CHANGED),
        ("fail", "blocked", CHANGED),
        ("crash", "unsupported", CHANGED),
        ("fail", "error", CHANGED),
    ],
)
def test_every_way_has_its_word(tmp_path: Path, old: str, new: str, kind: str) -> None:
    before, after = small_run("pass", old), small_run("pass", new)

    (change,) = compare(before, after)
    done = diff(tmp_path, before, after)

    assert (change.kind, change.clause) == (kind, "CAP-02")
    assert f"CAP-02 {old} -> {new}" in done.output
    assert done.exit_code == (1 if kind == WORSE else 0), done.output


def test_same_runs_differ_in_nothing(tmp_path: Path) -> None:
    run = small_run("pass", "fail", "missing")

    done = diff(tmp_path, run, run)

    assert done.exit_code == 0
    assert "nothing differs" in done.output


def named(tests: dict[str, tuple[str, str]], **header: Any) -> Run:
    """A run of tests by name, each with its clause and its outcome."""
    results = [
        replace(ONE, id=f"t::{name}", clause=clause, outcome=outcome)
        for name, (clause, outcome) in tests.items()
    ]
    plan = {result.id: result.clause for result in results}
    clauses = small_run("pass", "pass").clauses
    return Run({**HEADER, **header}, clauses, plan, results, {})


def test_new_tests_are_told_and_are_not_worse(tmp_path: Path) -> None:
    old = named({"a": ("CAP-01", "fail")})
    new = named(
        {"a": ("CAP-01", "fail"), "b": ("CAP-01", "fail"), "c": ("CAP-02", "xfail")}
    )

    kinds = [change.kind for change in compare(old, new)]
    done = diff(tmp_path, old, new)

    assert kinds == [NEW, NEW]
    assert done.exit_code == 0
    assert "2 new, of the new, 1 do not pass" in done.output


def test_a_new_clause_that_is_broken_is_worse(tmp_path: Path) -> None:
    old = named({"a": ("CAP-01", "fail")})
    new = named({"a": ("CAP-01", "fail"), "b": ("CAP-02", "crash")})

    assert [change.kind for change in compare(old, new)] == [WORSE]
    assert diff(tmp_path, old, new).exit_code == 1


@pytest.mark.parametrize("outcome", ["fail", "xfail", "blocked"])
def test_a_test_that_is_renamed_and_passes_no_more_is_worse(
    tmp_path: Path, outcome: str
) -> None:
    old = named({"a": ("CAP-01", "fail"), "b": ("CAP-01", "pass")})
    new = named({"a": ("CAP-01", "fail"), "c": ("CAP-01", outcome)})

    assert [change.kind for change in compare(old, new)] == [WORSE, GONE]
    assert diff(tmp_path, old, new).exit_code == 1


def test_a_test_that_was_left_out_is_worse(tmp_path: Path) -> None:
    old = named({"a": ("CAP-01", "fail"), "b": ("CAP-01", "pass")})
    new = named({"b": ("CAP-01", "pass")}, cut=["CAP-01"])

    assert [change.kind for change in compare(old, new)] == [WORSE]
    assert diff(tmp_path, old, new).exit_code == 1


@pytest.mark.parametrize("outcome", ["pass", "blocked"])
def test_a_verdict_that_falls_is_worse(tmp_path: Path, outcome: str) -> None:
    old = named({"a": ("CAP-01", "pass"), "b": ("CAP-02", "pass")})
    new = named({"a": ("CAP-01", "pass"), "b": ("CAP-02", "pass")})
    new.plan["t::c"] = "CAP-02"
    new.results.append(replace(ONE, id="t::c", clause="CAP-02", outcome=outcome))

    done = diff(tmp_path, old, new)

    assert [change.kind for change in compare(old, new)] == [NEW]
    assert done.exit_code == (outcome != "pass")
    assert ("core is conformant no more" in done.output) == (outcome != "pass")


def test_one_group_of_several_is_refused(tmp_path: Path) -> None:
    shard = named({"a": ("CAP-01", "pass")}, shard={"group": 1, "splits": 2})

    done = diff(tmp_path, small_run("pass"), shard)

    assert done.exit_code == 4
    assert "new.jsonl is one group of several" in done.output


def test_clause_that_is_withdrawn_is_gone(tmp_path: Path) -> None:
    old, new = small_run("pass", "pass"), small_run("pass")

    (change,) = compare(old, new)
    done = diff(tmp_path, old, new)

    assert change.kind == GONE
    assert done.exit_code == 0
    assert "CAP-02 pass -> gone" in done.output


def test_clause_that_is_tested_no_more_is_worse(tmp_path: Path) -> None:
    old = small_run("pass", "pass")
    new = replace(small_run("pass"), clauses=old.clauses)

    (change,) = compare(old, new)
    done = diff(tmp_path, old, new)

    assert change.kind == WORSE
    assert done.exit_code == 1


def test_tests_that_went_the_same_way_share_a_line() -> None:
    def twice(outcome: str) -> Run:
        one, two = small_run(outcome, outcome).results
        plan = {one.id: "CAP-01", two.id: "CAP-01"}
        both = [replace(one, message="a"), replace(two, clause="CAP-01")]
        return replace(small_run(outcome), plan=plan, results=both)

    (change,) = compare(twice("pass"), twice("fail"))

    assert change.tests == ("test_CAP-01", "test_CAP-02")
    assert change.message == "a"


def test_what_is_compared_stands_above_and_verdicts_below(tmp_path: Path) -> None:
    old, new = small_run("pass"), small_run("fail")
    versions = {**HEADER["environment"], "versions": {"torch": "2.14.0"}}
    new.header = {**HEADER, "environment": versions, "catalogue": "1" * 64}

    lines = diff(tmp_path, old, new).output.splitlines()

    assert "torch 2.13.0" in lines[0].partition("->")[0]
    assert "torch 2.14.0" in lines[0].partition("->")[2]
    assert "the clauses are not the same" in lines[0]
    assert "all: conformant -> not conformant (1 fail)" in lines


def test_markdown_has_a_table_for_each_kind(tmp_path: Path) -> None:
    target = tmp_path / "diff.md"

    old, new = small_run("pass", "fail"), small_run("crash", "pass")
    done = diff(tmp_path, old, new, f"--markdown={target}")

    text = target.read_text()
    assert done.exit_code == 1
    assert text.index("## worse") < text.index("## better")
    assert r"| CAP-01 | pass -> crash | test_CAP-01 | so\|so |" in text
    assert "1 worse, 1 better" in text


def test_file_that_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "old.jsonl", small_run("pass"))

    done = CliRunner().invoke(main, ["diff", str(path), str(tmp_path / "no.jsonl")])

    assert done.exit_code == 4
    assert done.output.startswith(f"Error: {tmp_path / 'no.jsonl'}: cannot be read")
