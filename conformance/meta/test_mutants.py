"""The kill table: who is hunted, what it says, and when it fails."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from conformance.meta import kill_table
from conformance.meta.kill_table import Table, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.meta.conftest import Stage

CLAUSES = """
@clause("CAP-01")
def test_one(impl):
    assert impl.capture() != "broken"

@clause("CAP-02")
def test_two(impl):
    if impl.export() == "on a GPU":
        blocked("it needs a GPU")
    assert impl.export() != "broken"
"""

ADAPTER = """
from conformance.adapter import Info

info = Info("small", "1.0", "https://example.org", "https://example.org/issues")
capabilities = frozenset({"dynamic"})

def capture(*args): ...
def export(*args): ...
def compile(*args): ...
def apply(*args): ...
"""

MUTANTS = """
import small_adapter
from conformance.meta.mutants._make import Mutant

def mutant(clause, **verbs):
    answers = {name: lambda a=answer: a for name, answer in verbs.items()}
    return Mutant(small_adapter, small_adapter.info, small_adapter.capabilities,
                  answers, clause)

CAP_01 = mutant("CAP-01", capture="broken")
"""

KILL = """
import sys
from pathlib import Path
import small_mutants
from conformance import collecting, isolated, spec
from conformance.meta import kill

isolated.warm_up = lambda: None  # nothing here compiles

spec.SPEC = Path("SPEC.md").resolve()
collecting.CLAUSES = Path("clauses").resolve()
kill.MUTANTS = small_mutants
sys.exit(kill.main(["-j1", "--cache=cache", *sys.argv[1:]]))
"""


@pytest.fixture
def hunt(stage: Stage) -> Stage:
    stage.clauses(CLAUSES)
    stage.write("small_adapter.py", ADAPTER)
    stage.write("small_mutants/__init__.py", "")
    stage.write("kill.py", KILL)
    return stage


def run(stage: Stage, mutants: str, *arguments: str) -> pytest.RunResult:
    stage.write("small_mutants/cap.py", MUTANTS + mutants)
    return stage.pytester.run(sys.executable, "kill.py", *arguments)


def words(path: Path) -> dict[str, str]:
    return {verdict.mutant: verdict.word for verdict in kill_table.read(path).verdicts}


def test_survivors_and_the_misplaced_fail_the_table(hunt: Stage) -> None:
    ended = run(
        hunt,
        'CAP_02_idle = mutant("CAP-02", export="fine")\n'
        'CAP_02_wrong = mutant("CAP-02", capture="broken")\n',
        "--write=table.json",
    )

    assert ended.ret == 1
    assert words(hunt.pytester.path / "table.json") == {
        "CAP_01": "killed",
        "CAP_02_idle": "SURVIVED",
        "CAP_02_wrong": "MISPLACED",
    }
    ended.stderr.fnmatch_lines(
        ["killed *CAP_01 *test_one", "MISPLACED *CAP_02_wrong *CAP-01 test_one"]
    )
    ended.stdout.fnmatch_lines(
        ["3 mutants, 1 survivors, 1 killed by other clauses only, 0 blocked*"]
    )


def test_the_blocked_are_listed_and_decided_by_another_machine(hunt: Stage) -> None:
    blocked = 'CAP_02 = mutant("CAP-02", export="on a GPU")\n'

    here = run(hunt, blocked, "--write=cpu.json")

    assert here.ret == 0
    here.stdout.fnmatch_lines(["*CAP_02 *CAP-02 *blocked*it needs a GPU*"])

    # The same mutants, where it does not take a GPU.
    there = run(
        hunt,
        'CAP_02 = mutant("CAP-02", export="broken")\n',
        "--undecided-in=cpu.json",
        "--write=gpu.json",
    )

    assert there.ret == 0
    assert words(hunt.pytester.path / "gpu.json") == {"CAP_02": "killed"}

    both = run(hunt, blocked, "--elsewhere=gpu.json")
    assert both.ret == 0
    both.stdout.fnmatch_lines(["*CAP_02 *CAP-02 *killed*test_two (on *"])


def test_what_no_machine_has_decided_fails_where_another_was_asked(hunt: Stage) -> None:
    blocked = Verdict("CAP_02", "CAP-02", "blocked", "it needs a GPU")
    table = kill_table.Writer(hunt.pytester.path / "gpu.json", "cuda", planned=1)
    table.add(blocked)

    mutants = 'CAP_02 = mutant("CAP-02", export="on a GPU")\n'
    ended = run(hunt, mutants, "--elsewhere=gpu.json", "CAP_02")

    assert ended.ret == 1
    ended.stdout.fnmatch_lines(["1 mutants, 0 survivors, 0 *, 1 blocked*"])


def test_a_clause_without_a_mutant_fails_the_table(hunt: Stage) -> None:
    ended = run(hunt, "")

    assert ended.ret == 1
    ended.stdout.fnmatch_lines(["CAP-02: no mutant breaks it"])


@pytest.mark.parametrize(
    "arguments", [["CAP_99"], ["--elsewhere=kill.py"]], ids=["name", "table"]
)
def test_what_there_is_not_is_told(hunt: Stage, arguments: list[str]) -> None:
    ended = run(hunt, "", *arguments)

    assert ended.ret == 4
    ended.stderr.no_fnmatch_line("Traceback*")


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
