"""What `report` writes beside the board: JUnit XML, and a badge."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from conformance import board
from conformance.badge import badge
from conformance.cli import main
from conformance.judging import OUTCOMES
from conformance.junit import junit
from conformance.meta.runs import HEADER, small_run, write

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.results import Run


def test_junit_has_a_suite_per_run_and_counts_like_its_cases() -> None:
    root = ET.fromstring(junit([small_run(*OUTCOMES, "missing"), small_run("pass")]))  # noqa: S314  # ours

    first, second = root.findall("testsuite")
    kinds = {
        case.get("classname"): [child.tag for child in case]
        for case in first.findall("testcase")
    }
    assert list(kinds.values()) == [
        [],
        ["failure"],
        ["error"],
        ["failure"],
        ["failure"],
        ["skipped"],
        ["failure"],
        ["skipped"],
        ["skipped"],
        ["error"],
    ]
    counts = {key: first.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "10", "failures": "4", "errors": "2", "skipped": "3"}
    assert second.get("tests") == "1"


def test_junit_says_what_happened_and_how_to_repeat_it() -> None:
    root = ET.fromstring(junit([small_run("crash")]))  # noqa: S314  # ours

    failure = root.find(".//failure")
    assert failure is not None
    assert (failure.get("type"), failure.get("message")) == ("crash", "so|so")
    assert "CAP-01 Claim CAP-01" in (failure.text or "")
    assert "python -m pytest" in (failure.text or "")


def test_junit_survives_what_xml_cannot_write() -> None:
    run = small_run("fail")
    message = "a\x00b\x1b[31m <tag> & \ud800 ]]>"
    run = replace(run, results=[replace(run.results[0], message=message)])

    root = ET.fromstring(junit([run]))  # noqa: S314  # ours

    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "a\ufffdb\ufffd[31m <tag> & \ufffd ]]>"


def test_junit_survives_an_odd_time() -> None:
    run = replace(small_run("pass"), header={**HEADER, "started": "a\x00b"})

    root = ET.fromstring(junit([run]))  # noqa: S314  # ours

    assert root[0].get("timestamp") == "a\ufffdb"


@pytest.mark.parametrize("end", ["\r", "\r\n", "\x0b", "\u2028"])
def test_no_end_of_a_line_breaks_a_table(end: str) -> None:
    run = small_run("fail")
    result = replace(run.results[0], message=f"one{end}two")
    run.header = {**HEADER, "implementation": {**HEADER["implementation"]}}
    run.header["implementation"]["version"] = f"1{end}0"

    marked = board.markdown([replace(run, results=[result])] * 2)

    assert "| CAP-01 | fail | one |" in marked
    assert "| small 1 0 | small 1 0 |" in marked.replace(", cpu, torch 2.13.0", "")


@pytest.mark.parametrize(
    ("outcomes", "message", "colour"),
    [
        (["pass"], "conformant", "brightgreen"),
        (["pass", "fail"], "not conformant (1 fail)", "red"),
        (["xpass"], "not conformant (1 xpass)", "red"),
        (["pass", "xfail"], "not conformant (1 xfail)", "yellow"),
        (["pass", "blocked"], "not conformant (1 blocked)", "yellow"),
        (["pass", "missing"], "incomplete (1 without a result)", "lightgrey"),
        (["fail", "missing"], "not conformant (1 fail, 1 without a result)", "red"),
    ],
)
def test_badge_shows_the_verdict(
    outcomes: list[str], message: str, colour: str
) -> None:
    made = json.loads(badge([small_run(*outcomes)]))

    assert made["schemaVersion"] == 1
    assert (made["message"], made["color"]) == (message, colour)
    assert made.get("isError", False) == (colour == "red")


@pytest.mark.parametrize(
    "header",
    [{"cut": ["CAP-02"]}, {"shard": {"group": 1, "splits": 2}}],
    ids=["cut", "shard"],
)
@pytest.mark.parametrize("outcome", ["pass", "xfail"])
def test_badge_of_a_part_is_grey(header: dict[str, Any], outcome: str) -> None:
    run = replace(small_run("pass", outcome), header={**HEADER, **header})

    made = json.loads(badge([run]))

    assert made["color"] == "lightgrey"
    assert "part" in made["message"] or "only group 1 of 2" in made["message"]


def test_badge_of_several_runs_counts_and_takes_the_worst_colour() -> None:
    made = json.loads(badge([small_run("pass"), small_run("fail"), small_run("xfail")]))

    assert (made["message"], made["color"]) == ("1 of 3 conform", "red")


def test_badge_of_a_profile_looks_at_its_clauses_only() -> None:
    run = small_run("pass", "fail")
    run.clauses["CAP-02"]["profile"] = ["dynamic"]
    able: dict[str, Any] = {**HEADER["implementation"], "capabilities": ["dynamic"]}

    def colour(run: Run, profile: str) -> str:
        return str(json.loads(badge([run], profile))["color"])

    claiming = replace(run, header={**HEADER, "implementation": able})
    assert colour(run, "core") == "brightgreen"
    assert colour(run, "dynamic") == "blue"
    assert colour(claiming, "dynamic") == "red"


def test_report_writes_what_it_is_asked_for(tmp_path: Path) -> None:
    files = [
        str(write(tmp_path / f"{number}.jsonl", small_run("pass")))
        for number in range(3)
    ]
    xml, shield = tmp_path / "junit.xml", tmp_path / "badge.json"

    options = [f"--junit={xml}", f"--badge={shield}", "--badge-profile=core"]
    done = CliRunner().invoke(main, ["report", *files, *options])

    assert done.exit_code == 0, done.output
    assert len(ET.parse(xml).findall("testsuite")) == 3  # noqa: S314  # ours
    assert json.loads(shield.read_text())["label"] == "AOTI core"


@pytest.mark.parametrize("option", ["--junit", "--badge", "--markdown"])
def test_target_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, option: str
) -> None:
    path = write(tmp_path / "out.jsonl", small_run("pass"))
    target = tmp_path / "no" / "such"

    done = CliRunner().invoke(main, ["report", str(path), f"{option}={target}"])

    assert done.exit_code == 4
    assert f"Error: {option}={target}: cannot be written" in done.output
