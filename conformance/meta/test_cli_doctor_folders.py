"""The command `doctor`: folders for temporary files and for packages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from conformance.cli import main
from conformance.doctor import folders, probes
from conformance.doctor.findings import BREAKS, GOOD, NOTE

if TYPE_CHECKING:
    from pathlib import Path


def test_tmpdir_that_is_not_there_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "no"))

    done = CliRunner().invoke(main, ["doctor", "--check=tmpdir"])

    assert done.exit_code == 1
    assert f"TMPDIR={tmp_path / 'no'} is no folder" in done.output


def test_no_temporary_folder_at_all_is_a_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)

    done = CliRunner().invoke(main, ["doctor", "--check=torch"])

    assert done.exit_code == 1
    assert "No space left on device" in done.output


@pytest.mark.parametrize(
    ("fact", "level", "words"),
    [
        ({}, GOOD, "10.0 GiB free"),
        ({"writable": False}, BREAKS, "cannot be written to"),
        ({"noexec": True}, BREAKS, "mounted noexec"),
        ({"free_mib": 100}, BREAKS, "0.1 GiB free"),
        ({"free_mib": 1024}, NOTE, "1.0 GiB free"),
        ({"free_files": 3}, BREAKS, "3 more files fit"),
        ({"free_files": None}, GOOD, "10.0 GiB free"),
    ],
)
def test_folder_of_packages_is_judged(
    fact: dict[str, Any], level: str, words: str
) -> None:
    good = {
        "path": "/t",
        "exists": True,
        "writable": True,
        "noexec": False,
        "free_mib": 10240,
        "free_files": 10**6,
    }

    found = folders.tmpdir({**good, **fact}, None)

    assert found.level == level
    assert words in found.found
    assert bool(found.cure) == (level != GOOD)


def test_probe_of_a_folder_tells_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)
    there = probes.folder(str(tmp_path))
    below = probes.folder(str(tmp_path / "not" / "yet"))

    def noexec(_: Any) -> os.statvfs_result:
        return os.statvfs_result([*real[:8], os.ST_NOEXEC, real[9]])

    monkeypatch.setattr(os, "statvfs", noexec)

    assert (there["exists"], there["writable"]) == (True, True)
    assert (below["exists"], below["writable"]) == (False, True)
    assert below["free_mib"] > 0
    assert probes.folder(str(tmp_path))["noexec"] is True
