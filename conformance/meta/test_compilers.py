"""ccache, where it is installed, stands before the C++ compilers."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from conformance.compilers import reuse_objects

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an environment of its own."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("CCACHE_")}
    monkeypatch.setattr(os, "environ", own)


def program(folder: Path, name: str, says: str) -> None:
    """Write a program that says something."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {says}\n")
    (folder / name).chmod(0o755)


def said_by(name: str) -> str:
    """What a program says that is found by its name."""
    found = shutil.which(name, path=os.environ["PATH"])
    assert found
    asked = subprocess.run([found], capture_output=True, text=True, check=True)
    return asked.stdout.strip()


def test_compilers_are_called_through_ccache(tmp_path: Path) -> None:
    program(tmp_path / "bin", "g++", "compiler")
    program(tmp_path / "bin", "ccache", "ccache")
    os.environ["PATH"] = f"{tmp_path / 'bin'}:/usr/bin:/bin"

    assert reuse_objects(tmp_path / "root")

    assert said_by("g++") == "ccache"
    assert os.environ["CCACHE_DIR"] == str(tmp_path / "root" / "ccache")
    before = dict(os.environ)
    assert reuse_objects(tmp_path / "root")
    assert dict(os.environ) == before


def test_settings_of_the_caller_stay(tmp_path: Path) -> None:
    program(tmp_path / "bin", "g++", "compiler")
    program(tmp_path / "bin", "ccache", "ccache")
    os.environ.update(PATH=str(tmp_path / "bin"), CCACHE_DIR="/elsewhere")

    assert reuse_objects(tmp_path / "root")

    assert os.environ["CCACHE_DIR"] == "/elsewhere"


@pytest.mark.parametrize("there", ["g++", "ccache"])
def test_nothing_changes_where_one_of_them_is_missing(
    there: str, tmp_path: Path
) -> None:
    program(tmp_path / "bin", there, "one")
    os.environ["PATH"] = str(tmp_path / "bin")
    before = dict(os.environ)

    assert not reuse_objects(tmp_path / "root")

    assert dict(os.environ) == before
    assert not (tmp_path / "root").exists()


def test_nothing_changes_where_nothing_can_be_kept(tmp_path: Path) -> None:
    program(tmp_path / "bin", "g++", "compiler")
    program(tmp_path / "bin", "ccache", "ccache")
    (tmp_path / "root").write_text("a file")
    os.environ["PATH"] = str(tmp_path / "bin")
    before = dict(os.environ)

    assert not reuse_objects(tmp_path / "root")

    assert dict(os.environ) == before
