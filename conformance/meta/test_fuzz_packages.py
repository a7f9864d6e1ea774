"""The fuzz of packages, on an adapter that has nothing but packages."""

from __future__ import annotations

import random
import shlex
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from conformance import archives, fuzz_results, mutations
from conformance.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ADAPTER = """
import hashlib, os, signal, tempfile
from conformance import archives
from conformance.adapter import Info, Refused
from conformance.models import blocks

info = Info("small", "1.0", "https://example.org", "https://example.org/issues")
capabilities = frozenset({"package"})
MEMBERS = [
    archives.Entry("a/facts.json", b'{"one": [1, 2], "two": "three"}'),
    archives.Entry("a/graph.so", b"\\x7fELF" + bytes(range(256)) * 8),
]

def capture(*args): ...
def export(module, call, *, dynamic=None): return "exported"
def compile(exported, *, options=None): return "compiled"

def save(compiled, folder):
    archives.write(folder / "package.zip", MEMBERS)
    (folder / "sum").write_text(digest(folder))

def digest(folder):
    return hashlib.sha256((folder / "package.zip").read_bytes()).hexdigest()

def load(folder):
    changed = digest(folder) != (folder / "sum").read_text()
    return met(folder) if changed else 0.0

def apply(compiled, module):
    inner = module.forward

    def forward(*args, **kwargs):
        (found,) = inner(*args, **kwargs)
        blocks.entered.clear()
        return (found + compiled,)

    module.forward = forward
"""
_REFUSES = "def met(folder): raise Refused(f'{folder} was changed')"
_TAKES = "def met(folder): return 1.0"
_DIES = "def met(folder): os.kill(os.getpid(), signal.SIGSEGV)"
_LEAVES = """
def met(folder):
    tempfile.mkdtemp()
    raise Refused("changed")
"""
_STUMBLES = "def met(folder): return {}['something']"


@pytest.fixture
def fuzzed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command on a small adapter, by what it does with damaged packages."""

    def run(met: str, *options: str) -> Result:
        name = f"packaged_{abs(hash((tmp_path, met)))}"
        text = dedent(_ADAPTER) + dedent(met)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        where = ["--impl", name, "--cache", str(tmp_path / "cache"), "-j", "1"]
        return CliRunner().invoke(main, ["fuzz", *where, *options])

    return run


def test_command_ends_well_where_every_damage_is_refused(
    fuzzed: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "fuzz.jsonl"

    told = fuzzed(_REFUSES, "--packages", "36", "--output", str(path))

    run = fuzz_results.read(path)
    assert told.exit_code == 0, told.output
    assert sum(run.tally.total.values()) == 36
    assert run.tally.total[fuzz_results.REFUSED] > 30
    assert set(run.tally.by_kind) == set(mutations.KINDS)


@pytest.mark.parametrize(
    ("met", "outcome"),
    [
        (_TAKES, fuzz_results.WRONG),
        (_DIES, fuzz_results.CRASHED),
        (_LEAVES, fuzz_results.LEFT),
        (_STUMBLES, fuzz_results.UNNAMED),
    ],
    ids=["wrong", "crashed", "left", "unnamed"],
)
def test_command_counts_and_repeats_what_is_wrong(
    fuzzed: Callable[..., Result], tmp_path: Path, met: str, outcome: str
) -> None:
    path = tmp_path / "fuzz.jsonl"

    told = fuzzed(met, "--packages", "18", "--output", str(path))

    run = fuzz_results.read(path)
    assert told.exit_code == 1
    assert run.tally.total[outcome] == len(run.findings) > 10
    words = shlex.split(run.findings[0]["command"])
    assert words[:2] == ["aoti-conformance", "fuzz"]
    assert fuzzed(met, *words[4:]).exit_code == 1


_RESEALS = """
import json

def met(folder): raise Refused("changed")

def reseal(folder):
    (folder / "sum").write_text(digest(folder))

def load(folder):
    if digest(folder) != (folder / "sum").read_text():
        return met(folder)
    facts = archives.entries(folder / "package.zip")[0].data
    return float(json.loads(facts)["one"][1] - 2)
"""


def test_facts_behind_right_digests_are_tried(
    fuzzed: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "fuzz.jsonl"

    told = fuzzed(_RESEALS, "--packages", "95", "--output", str(path))

    run = fuzz_results.read(path)
    assert told.exit_code == 1, told.output
    assert {found["perturbation"] for found in run.findings} == {mutations.RESEALED}
    assert run.tally.by_kind[mutations.RESEALED][fuzz_results.EQUAL] > 0
    assert run.tally.by_kind[mutations.RESEALED][fuzz_results.UNNAMED] > 0


def test_layer_without_packages_is_refused(fuzzed: Callable[..., Result]) -> None:
    without = "capabilities = frozenset()"

    told = fuzzed(without, "--packages", "3")

    assert told.exit_code == 4
    assert "saves no packages" in told.output


@pytest.mark.parametrize("kind", list(mutations.KINDS))
def test_every_mutation_repeats_and_changes(kind: str) -> None:
    members = [
        archives.Entry("a/facts.json", b'{"one": [1, 2], "two": "three"}'),
        archives.Entry("a/graph.so", b"\x7fELF" + bytes(range(256)) * 8),
    ]
    good = archives.packed(members)

    draws = [random.Random(seed) for seed in (1, *range(1, 9))]  # noqa: S311
    made = [mutations.KINDS[kind](good, draw) for draw in draws]

    assert made[0] == made[1]
    assert any(each != good for each in made)
