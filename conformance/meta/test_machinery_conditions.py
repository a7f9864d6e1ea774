"""Known deviations that hold on some platforms, devices or versions only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conformance.conditions import condition
from conformance.deviations import BadDeviations, read
from conformance.meta.conftest import outcomes

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.meta.conftest import Stage

HERE = {
    "platform": "Linux-6.8.0-x86_64-with-glibc2.41",
    "python": "3.12.3",
    "device": "cuda:1",
    "versions": {"torch": "2.13.0+cu130", "torchao": "0.18.0.dev1"},
}
ENTRY = "reason = 'r'\nsee = 's'\n"


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({"platform": "linux-*"}, True),
        ({"platform": "*glibc2.41"}, True),
        ({"platform": "*aarch64*"}, False),
        ({"device": "cuda*"}, True),
        ({"device": "cuda"}, False),
        ({"device": "cpu"}, False),
        ({"versions": {"torch": ">=2.13,<2.14"}}, True),
        ({"versions": {"torch": "<2.13"}}, False),
        ({"versions": {"torchao": ">=0.17"}}, True),
        ({"versions": {"python": "<3.13"}}, True),
        ({"versions": {"spaces": ">=0"}}, False),
        ({"device": "cuda*", "versions": {"torch": "<2.13"}}, False),
    ],
)
def test_condition_holds_where_all_of_it_does(
    when: dict[str, Any], *, holds: bool
) -> None:
    assert condition(when).holds(HERE) is holds


def test_run_takes_the_entries_that_hold_there(stage: Stage) -> None:
    stage.clauses("""
        @clause("CAP-01")
        def test_one():
            assert False

        @clause("CAP-02")
        def test_two(): ...
    """)
    for name, device in (("here", "cpu"), ("there", "cuda")):
        when = f'when = {{ device = "{device}", versions = {{ torch = ">=2" }} }}'
        stage.write(f"{name}.toml", f"[CAP-01]\n{ENTRY}{when}\n")

    here, there = (
        stage.results(f"--aoti-expected={name}.toml") for name in ("here", "there")
    )

    assert outcomes(here)["test_one"] == "xfail"
    assert outcomes(there)["test_one"] == "fail"
    assert (here.header["expected"], there.header["expected"]) == (["CAP-01"], [])


def test_of_several_entries_the_one_that_holds_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    path.write_text(
        f"[[CAP-01]]\n{ENTRY}when.versions = {{ torch = '<2.13' }}\n"
        "[[CAP-01]]\nreason = 'newer'\nsee = 's'\nwhen.versions.torch = '>=2.13'\n"
    )

    found = read(path, ["CAP-01"], HERE)

    assert found["CAP-01"].reason == "newer"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"[[CAP-01]]\n{ENTRY}[[CAP-01]]\n{ENTRY}", "two of its entries hold here"),
        (f"[CAP-01]\n{ENTRY}when = {{}}\n", "must be a table"),
        (f"[CAP-01]\n{ENTRY}when = 'cuda'\n", "must be a table"),
        (f"[CAP-01]\n{ENTRY}when.gpu = 'H200'\n", "keys that mean nothing: gpu"),
        (f"[CAP-01]\n{ENTRY}when.device = 3\n", "needs words as its device"),
        (f"[CAP-01]\n{ENTRY}when.versions = '2.13'\n", "a table of versions"),
        (f"[CAP-01]\n{ENTRY}when.versions.troch = '>=2'\n", "the version of troch"),
        (f"[CAP-01]\n{ENTRY}when.versions.torch = '2.13'\n", "needs a specifier"),
        (f"[CAP-01]\n{ENTRY}when.versions.torch = ''\n", "needs a specifier"),
        (f"[CAP-01]\n{ENTRY}when.versions.torch = 2\n", "needs a specifier"),
    ],
)
def test_condition_that_makes_no_sense_is_one_sentence(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "known.toml"
    path.write_text(text)

    with pytest.raises(BadDeviations) as caught:
        read(path, ["CAP-01"], HERE)

    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
