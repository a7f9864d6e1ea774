"""The command `clauses`: what a clause demands, what tests it, what breaks it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from conformance import sources
from conformance.cli import main
from conformance.meta import kill
from conformance.meta.mutants import cap

if TYPE_CHECKING:
    from pathlib import Path


def test_clause_is_shown_with_its_tests_and_mutants() -> None:
    done = CliRunner().invoke(main, ["clauses", "CAP-01"])

    lines = done.output.splitlines()
    assert done.exit_code == 0
    assert lines[0].startswith("CAP-01 ")
    assert any(line.startswith("Test: test_cap") for line in lines)
    assert "Mutant: cap:CAP_01" in lines


def test_clause_may_be_named_in_lower_case() -> None:
    named = [
        CliRunner().invoke(main, ["clauses", name]) for name in ("CAP-01", "cap-01")
    ]

    assert named[0].exit_code == 0
    assert named[0].output == named[1].output


def test_clause_that_there_is_not_is_refused() -> None:
    done = CliRunner().invoke(main, ["clauses", "XYZ-99"])

    assert (done.exit_code, done.output) == (4, "Error: SPEC.md has no XYZ-99\n")


def test_clause_that_is_misspelt_is_guessed() -> None:
    done = CliRunner().invoke(main, ["clauses", "CAP01"])

    assert done.exit_code == 4
    assert "SPEC.md has no CAP01; did you mean CAP-01" in done.output


def test_adapter_is_found_in_the_folder_of_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapter_of_this_folder.py").write_text("info = 'none'")

    done = CliRunner().invoke(main, ["fuzz", "--impl=adapter_of_this_folder"])

    assert done.exit_code == 4
    assert "info must be a conformance.adapter.Info" in done.output


def test_mutants_are_found_without_importing_them() -> None:
    imported: dict[str, list[str]] = {}
    for path, mutant in kill.mutants_in(cap).items():
        imported.setdefault(mutant.clause, []).append(path.rpartition(".")[2])

    found = {name: sources.mutants_of(name) for name in imported}

    assert len(found) > 5
    of_chapter = {
        name: [path for path in paths if path.startswith("cap:")]
        for name, paths in found.items()
    }
    assert of_chapter == imported


def test_mutant_is_named_for_its_clause() -> None:
    module = ModuleType("conformance.meta.mutants.odd")
    vars(module).update(CAP_02_wrong=cap.CAP_01)

    with pytest.raises(ValueError, match="CAP_02_wrong breaks CAP-01"):
        kill.mutants_in(module)
