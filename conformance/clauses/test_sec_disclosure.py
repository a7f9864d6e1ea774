"""Chapter SEC: what a package discloses, and what is trusted while it is loaded."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance import archives, isolated
from conformance.clauses import _compiles, _unpacking
from conformance.clauses._packages import (
    Tried,
    archive,
    assert_right_or_refused,
    ruined,
    tried,
)
from conformance.models import blocks
from conformance.models.blocks import seeded
from conformance.models.compiling import Small, rows
from conformance.spec import clause
from conformance.workbench import attempt, is_refusal

if TYPE_CHECKING:
    from conformance.adapter import Packages
    from conformance.cache import PackageCache

_SECRET = "hf_ThisIsNoTokenButLooksLikeOne"  # noqa: S105  # it is none
_SECRETS = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD")
_SOURCE = re.compile(rb"#include\s*[<\"]|^\s*@triton\.jit", re.MULTILINE)


@clause("SEC-10")
def test_a_package_names_no_folder_of_the_machine_that_made_it(package: Path) -> None:
    folders = {
        str(Path.home()),
        str(Path(torch.__file__).parent.parent),
        sys.prefix,
        os.environ["TORCHINDUCTOR_CACHE_DIR"],
        tempfile.gettempdir(),
    }
    own = [f"{folder}/".encode() for folder in folders]

    files = _compiles.files_of(package)

    told = {
        name: place.decode()
        for name, data in files.items()
        for place in own
        if place in data
    }
    assert told == {}


@clause("SEC-11")
@pytest.mark.usefixtures("cache")  # for its headers: nothing is taken from it
def test_a_package_holds_no_secret_of_the_environment(
    impl: Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {name: f"{_SECRET}_{name}" for name in _SECRETS}
    for name, secret in secrets.items():
        monkeypatch.setenv(name, secret)

    made = _unpacking.compiled_anew(impl, tmp_path / "anew")

    told = {
        member: name
        for member, data in _compiles.files_of(made).items()
        for name, secret in secrets.items()
        if secret.encode() in data
    }
    assert told == {}


@clause("SEC-12")
def test_a_package_holds_no_generated_sources(package: Path) -> None:
    files = _compiles.files_of(package)

    assert [name for name, data in files.items() if _SOURCE.search(data)] == []


@clause("SEC-13")
def test_what_was_checked_is_what_runs(
    impl: Packages,
    cache: PackageCache,
    package: Path,
    tmp_path: Path,
    temporary: Path,
    seed: int,
) -> None:
    other = tmp_path / "other"
    other.mkdir()

    def save() -> None:
        impl.save(cache.compiled(seeded(Small), rows()), other)

    ending = isolated.run_forked(save, deadline_s=_unpacking.COMPILE_S)
    assert ending.kind == "answer", ending.text

    def load() -> Any:
        module = seeded(blocks.Stack, seed)
        compiled = impl.load(package)
        archive(package).write_bytes(archive(other).read_bytes())
        ended = attempt(lambda: impl.apply(compiled, module))
        ended = ended if ended.error else attempt(lambda: _unpacking.called(module))
        assert ended.error is None or is_refusal(ended.error), repr(ended.error)
        words = None if ended.error is None else str(ended.error)
        return Tried(ended.value, words, [], 0, untouched=True)

    assert_right_or_refused([_unpacking.in_child(load, temporary)], seed)


@clause("SEC-14")
def test_files_that_lie_about_are_not_trusted(
    impl: Packages, package: Path, tmp_path: Path, temporary: Path, seed: int
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    kept = tmp_path / "kept"

    def load() -> None:
        _unpacking.answer(impl, package, seed)
        shutil.copytree(before, kept)

    _unpacking.in_child(load, before)
    shutil.copytree(kept, temporary, dirs_exist_ok=True)
    for file in [path for path in temporary.rglob("*") if path.is_file()]:
        file.write_bytes(ruined(file.read_bytes()))

    assert archives.find(package)
    assert_right_or_refused(tried(impl, [package], temporary, seed), seed)
