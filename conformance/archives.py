"""Zip archives taken apart and put together again, member by member.

Whatever a package is, its archives are zip files, as torch's .pt2 is one.
"""

from __future__ import annotations

import io
import stat
import zipfile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
LINK = stat.S_IFLNK | 0o777
_FILE = stat.S_IFREG | 0o644


class Entry(NamedTuple):
    """A member: its name, its bytes, how it is stored, and what kind of file it is."""

    name: str
    data: bytes
    method: int = zipfile.ZIP_DEFLATED
    mode: int = _FILE

    def __repr__(self) -> str:
        return f"Entry({self.name!r}, {len(self.data)} bytes)"


def find(folder: Path) -> list[Path]:
    """List the zip files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if zipfile.is_zipfile(path)]


def entries(path: Path) -> list[Entry]:
    """Read the members of an archive, in its order."""
    return unpacked(path.read_bytes())


def unpacked(data: bytes) -> list[Entry]:
    """Read the members of an archive in memory."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [
            Entry(entry.filename, archive.read(entry), entry.compress_type)
            for entry in archive.infolist()
        ]


def packed(members: Iterable[Entry]) -> bytes:
    """Make an archive of members; one name may come twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member in members:
            entry = zipfile.ZipInfo("placeholder", _LONG_AGO)
            entry.filename = entry.orig_filename = member.name  # as it is
            entry.create_system = 3
            entry.external_attr = member.mode << 16
            archive.NameToInfo.pop(member.name, None)  # else it warns of a second one
            archive.writestr(entry, member.data, member.method)
    return buffer.getvalue()


def write(path: Path, members: Iterable[Entry]) -> None:
    """Write an archive of members to `path`."""
    path.write_bytes(packed(members))
