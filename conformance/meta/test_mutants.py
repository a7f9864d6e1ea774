"""The kill table: who is hunted, what it says, and when it fails."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from conformance import gpus, isolated
from conformance.meta import kill, kill_table
from conformance.meta.kill_table import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

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
CAP_02_gpu = mutant("CAP-02", export="on a GPU")
CAP_02_idle = mutant("CAP-02", export="fine")
CAP_02_wrong = mutant("CAP-02", capture="broken")
"""

KILL = """
import sys
from pathlib import Path
import small_mutants
from conformance import collecting, isolated, spec
from conformance.meta import kill

isolated.warm_up = lambda _: None  # nothing here compiles

spec.SPEC = Path("SPEC.md").resolve()
collecting.CLAUSES = Path("clauses").resolve()
kill.MUTANTS = small_mutants
sys.exit(kill.main(["-j1", "--cache=cache", *sys.argv[1:]]))
"""


def test_survivors_are_told_from_the_misplaced_and_the_blocked(stage: Stage) -> None:
    stage.clauses(CLAUSES)
    stage.write("clauses/conftest.py", "from conformance.fixtures import impl\n")
    stage.write("small_adapter.py", ADAPTER)
    stage.write("small_mutants/__init__.py", "")
    stage.write("small_mutants/cap.py", MUTANTS)
    stage.write("kill.py", KILL)

    ended = stage.pytester.run(sys.executable, "kill.py", "--write=table.json")

    assert ended.ret == 1
    verdicts = kill_table.read(stage.pytester.path / "table.json").verdicts
    assert {verdict.mutant: (verdict.word, verdict.by) for verdict in verdicts} == {
        "CAP_01": ("killed", "test_one"),
        "CAP_02_gpu": ("blocked", "blocked: it needs a GPU"),
        "CAP_02_idle": ("SURVIVED", "pass"),
        "CAP_02_wrong": ("MISPLACED", "CAP-01 test_one"),
    }
    ended.stdout.fnmatch_lines(
        ["4 mutants, 1 survivors, 1 killed by other clauses only, 1 blocked*"]
    )


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the program on mutants of which it is known what becomes of them."""
    monkeypatch.setattr(kill, "keep_cuda_out", lambda: None)
    for name in ("prepare_environment", "warm_up"):
        monkeypatch.setattr(isolated, name, lambda *_: None)

    def run(*arguments: str, bare: tuple[str, ...] = (), **words: str) -> int:
        found = {
            f"mutants:{name}": SimpleNamespace(clause=name[:6].replace("_", "-"))
            for name in words
        }

        def hunt(path: str, clause: str, *_: Any) -> Verdict:
            name = path.rpartition(":")[2]
            return Verdict(name, clause, words[name], "test_x")

        monkeypatch.setattr(kill, "mutants", lambda: found)
        monkeypatch.setattr(kill, "hunt", hunt)
        monkeypatch.setattr(kill, "unguarded", lambda _: list(bare))
        return kill.main(list(arguments))

    return run


def test_only_killed_and_blocked_are_good(kills: Callable[..., int]) -> None:
    assert kills(CAP_01="killed", CAP_02="blocked") == 0
    assert kills(CAP_01="killed", CAP_02="SURVIVED") == 1
    assert kills(CAP_01="killed", CAP_02="MISPLACED") == 1


def test_hunts_on_a_gpu_agree_on_who_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "AOTI_GPU_LOCKS", "AOTI_GPU_WORKERS", "TORCHINDUCTOR_COMPILE_THREADS"
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpus, "visible", lambda: ["0", "1"])

    with kill.shared("cpu", 3):
        assert not os.environ.keys() & {*names}
    with kill.shared("cuda:1", 3):
        locks = os.environ["AOTI_GPU_LOCKS"].split(os.pathsep)
        assert [Path(lock).name for lock in locks] == ["gpu-1.lock", "gpu-0.lock"]
        with gpus.held():
            assert gpus.sharing() == 3
        with gpus.held(alone=True):
            assert gpus.sharing() == 1

    assert not os.environ.keys() & {*names}


def test_a_clause_without_a_mutant_fails_the_whole_table(
    kills: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"CAP_01": "killed", "CAP_02": "killed"}

    assert kills(bare=("CAP-03",), **found) == 1
    assert "CAP-03: no mutant breaks it" in capsys.readouterr().out
    assert kills("CAP_01", bare=("CAP-03",), **found) == 0


def test_another_machine_decides_what_is_blocked_here(
    kills: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu, gpu = tmp_path / "cpu.json", tmp_path / "gpu.json"
    here = {"CAP_01": "killed", "CAP_02": "blocked"}

    assert kills(f"--write={cpu}", **here) == 0
    assert "1 blocked (undecided here and elsewhere)" in capsys.readouterr().out
    assert kills(f"--elsewhere={cpu}", **here) == 1  # asked, and nobody knows

    there = {"CAP_01": "killed", "CAP_02": "killed"}
    assert kills(f"--undecided-in={cpu}", f"--write={gpu}", **there) == 0
    assert [verdict.mutant for verdict in kill_table.read(gpu).verdicts] == ["CAP_02"]
    capsys.readouterr()

    assert kills(f"--elsewhere={gpu}", **here) == 0
    assert "test_x (on " in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--elsewhere", "--undecided-in"])
def test_a_table_of_another_catalogue_vouches_for_nothing(
    kills: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
) -> None:
    gpu = tmp_path / "gpu.json"
    kills(f"--write={gpu}", CAP_02="killed")
    old = json.loads(gpu.read_text()) | {"catalogue": "0" * 64}
    gpu.write_text(json.dumps(old))
    capsys.readouterr()

    assert kills(f"{option}={gpu}", CAP_02="blocked") == 4
    assert (
        capsys.readouterr().err == f"{gpu} is of another catalogue: hunt there again\n"
    )


def test_a_mutant_of_another_clause_vouches_for_nothing(
    kills: Callable[..., int], tmp_path: Path
) -> None:
    gpu = tmp_path / "gpu.json"
    kills(f"--write={gpu}", CAP_02="killed")
    gpu.write_text(gpu.read_text().replace('"CAP-02"', '"CAP-03"'))

    assert kills(f"--elsewhere={gpu}", CAP_02="blocked") == 1


def test_what_survives_elsewhere_fails_here(
    kills: Callable[..., int], tmp_path: Path
) -> None:
    gpu = tmp_path / "gpu.json"

    assert kills(f"--write={gpu}", CAP_02="SURVIVED") == 1
    assert kills(f"--elsewhere={gpu}", CAP_02="blocked") == 1


def test_named_mutants_are_hunted_again_in_a_table_that_there_is(
    kills: Callable[..., int], tmp_path: Path
) -> None:
    table, found = tmp_path / "cpu.json", {"CAP_01": "killed", "CAP_02": "SURVIVED"}
    assert kills(f"--write={table}", **found) == 1

    assert kills(f"--write={table}", "CAP_02", CAP_01="SURVIVED", CAP_02="killed") == 0
    again = kill_table.read(table)
    assert [(v.mutant, v.word) for v in again.verdicts] == [
        ("CAP_01", "killed"),
        ("CAP_02", "killed"),
    ]
    assert again.planned == 2

    assert kills(f"--write={table}", "CAP_02", CAP_02="killed") == 0  # without CAP_01
    alone = kill_table.read(table)
    assert ([verdict.mutant for verdict in alone.verdicts], alone.planned) == (
        ["CAP_02"],
        1,
    )

    table.write_text(table.read_text().replace('"cpus": ', '"cpus": 9'))
    elsewhere = table.read_text()
    assert kills(f"--write={table}", "CAP_02", **found) == 4
    assert table.read_text() == elsewhere


@pytest.mark.parametrize(
    "arguments",
    [["CAP_01", "CAP_99"], [f"--elsewhere={__file__}"]],
    ids=["name", "table"],
)
def test_what_there_is_not_is_told(
    kills: Callable[..., int],
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert kills(*arguments, CAP_01="killed") == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_table_that_cannot_be_written_is_told(
    kills: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kills(f"--write={tmp_path / 'no' / 'such'}", CAP_01="killed") == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_none_at_a_time_is_refused(
    kills: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        kills("-j", "0", CAP_01="killed")
    assert "'0' is no number from 1 on" in capsys.readouterr().err


def test_mutants_have_names_of_their_own_and_every_clause_has_one() -> None:
    found = kill.mutants()
    names = [path.rpartition(":")[2] for path in found]

    assert len(set(names)) == len(names)  # the table knows them by their names
    for name, entry in zip(names, found.values(), strict=True):
        assert name.startswith(entry.clause.replace("-", "_"))
    assert kill.unguarded(found) == []
