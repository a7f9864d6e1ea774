"""What the facts about a folder mean."""

from __future__ import annotations

from typing import Any

from conformance.doctor.findings import BREAKS, GOOD, NOTE, Finding

_LITTLE_MIB, _TINY_MIB = 2048, 200
_FEW_FILES = 1000


def tmpdir(there: dict[str, Any], named: str | None) -> Finding:
    """Judge where packages are unpacked and loaded from.

    Args:
        there: What `probes.folder` found.
        named: What TMPDIR says.
    """
    path = f"TMPDIR={named}" if named else there["path"]
    cure = "set TMPDIR to a folder on a local disk, mounted without noexec"
    if not there["exists"]:
        told = f"{path} is no folder: Python takes another, and torch fails"
        return Finding("tmpdir", BREAKS, told, f"mkdir -p {there['path']}, or {cure}")
    if not there["writable"]:
        return Finding("tmpdir", BREAKS, f"{path} cannot be written to", cure)
    if there["noexec"]:
        told = f"{path} is mounted noexec: libraries in it cannot be loaded"
        return Finding("tmpdir", BREAKS, told, cure)
    return _space("tmpdir", path, there)


def cache(there: dict[str, Any]) -> Finding:
    """Judge where what is compiled or fetched is kept."""
    path = there["path"]
    if not there["writable"]:
        cure = "set AOTI_CACHE, TORCHINDUCTOR_CACHE_DIR and HF_HOME to folders of yours"
        return Finding("disk", BREAKS, f"{path} cannot be written to", cure)
    return _space("disk", path, there)


def _space(check: str, path: str, there: dict[str, Any]) -> Finding:
    free_mib, files = there["free_mib"], there["free_files"]
    told = f"{path}: {free_mib / 1024:.1f} GiB free"
    if free_mib < _TINY_MIB:
        return Finding(
            check, BREAKS, told, "make room: a package takes up to gigabytes"
        )
    if files is not None and files < _FEW_FILES:
        told = f"{path}: {files} more files fit"
        return Finding(check, BREAKS, told, "delete files: there are no inodes left")
    if free_mib < _LITTLE_MIB:
        return Finding(check, NOTE, told, "a full-size model needs more")
    return Finding(check, GOOD, told)
