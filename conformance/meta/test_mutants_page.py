"""The kill table as a file and as a page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from conformance import measured
from conformance.meta import kill_table
from conformance.meta.kill_table import Table, Verdict

if TYPE_CHECKING:
    from pathlib import Path


def table(machine: str, **found: str) -> Table:
    verdicts = [
        Verdict(name, name[:6].replace("_", "-"), word, f"test_{name}")
        for name, word in found.items()
    ]
    return Table(machine, len(verdicts), tuple(verdicts))


def test_a_decision_outweighs_blocked_and_a_survivor_outweighs_all() -> None:
    cpu = table("cpu", CAP_01="blocked", CAP_02="killed", CAP_03="killed")
    gpu = table("gpu", CAP_01="killed", CAP_02="SURVIVED", CAP_04="blocked")

    for order in ([cpu, gpu], [gpu, cpu]):
        found = kill_table.merged(order)
        assert {n: (v.word, where) for n, (v, where) in found.items()} == {
            "CAP_01": ("killed", "gpu"),
            "CAP_02": ("SURVIVED", "gpu"),
            "CAP_03": ("killed", "cpu"),
            "CAP_04": ("blocked", "gpu"),
        }


def test_the_page_has_every_mutant_and_names_bare_clauses() -> None:
    text = kill_table.markdown([table("cpu", CAP_01="killed", RUN_43_a="blocked")])

    assert "- 2 mutants: 1 killed, 1 blocked\n" in text
    assert "| CAP-01 | `CAP_01` | killed | `test_CAP_01` | cpu |" in text
    assert "| RUN-43 | `RUN_43_a` | blocked | `test_RUN_43_a` | cpu |" in text
    assert "- CAP-02: no mutant on record\n" in text
    assert "- CAP-01: no mutant on record\n" not in text


def test_a_table_that_was_cut_short_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mutants-cpu.json"
    writer = kill_table.Writer(path, "cpu", planned=3)
    writer.add(Verdict("CAP_01", "CAP-01", "killed", "test_x"))

    (text,) = kill_table.pages(tmp_path, tmp_path).values()

    assert ": 1 mutants, cut short: 2 are missing\n" in text


def test_a_table_tells_the_board_how_many_died(tmp_path: Path) -> None:
    path = tmp_path / "mutants-cpu.json"
    writer = kill_table.Writer(path, "cpu", planned=3)
    for name, word in (("CAP_01", "killed"), ("CAP_02", "SURVIVED"), ("X", "blocked")):
        writer.add(Verdict(name, name.replace("_", "-"), word, "test_x"))

    checks = measured.read(path).checks

    assert [(check.found, check.good) for check in checks] == [
        ("1", False),
        ("1", True),
    ]


def test_without_tables_there_is_no_page(tmp_path: Path) -> None:
    assert kill_table.pages(tmp_path, tmp_path) == {}


@pytest.mark.parametrize(
    "spoil",
    [
        {"environment": {}},
        {"figures": {"planned": 1, "mutants": [{"mutant": "CAP_01"}]}},
        {
            "figures": {
                "planned": 1,
                "mutants": [vars(Verdict("CAP_01", "CAP-01", "odd", ""))],
            }
        },
    ],
    ids=["environment", "keys", "word"],
)
def test_what_is_no_table_is_refused(tmp_path: Path, spoil: dict[str, Any]) -> None:
    path = tmp_path / "mutants.json"
    kill_table.Writer(path, "cpu", planned=0)
    content = json.loads(path.read_text()) | spoil
    path.write_text(json.dumps(content))

    with pytest.raises(kill_table.BrokenTable, match=r"mutants\.json"):
        kill_table.read(path)
