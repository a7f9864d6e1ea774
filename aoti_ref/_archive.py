"""Zip archives that hold exactly what they say, and are read with suspicion.

What is refused here never reaches torch: names that leave the folder, links, members
of one name, bytes between or behind the members, sizes that cannot be true.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, NoReturn

from aoti_ref._errors import BrokenPackage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    # What is given the sizes of members by name, and a way to read one.
    Check = Callable[[Mapping[str, int], Callable[[str], bytes]], None]

MOST_MEMBERS = 10_000
MOST_BYTES = 4 << 30
# What an archive may unpack to without being as large itself: nothing that is
# compiled packs to a twentieth.
_SMALL_BYTES = 64 << 20
_MOST_RATIO = 20
_LONGEST_NAME = 1024
_LOCAL_BYTES, _END_BYTES = 30, 22
_BEST_RATIO = 1032  # what deflate can do at most
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_ENCRYPTED = 1
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    UnicodeError,
    ValueError,
    struct.error,
    zlib.error,
)


def write(members: Mapping[str, bytes], *, compress: bool = True) -> bytes:
    """Make an archive, the same bytes for the same members, that `read` reads."""
    total = sum(map(len, members.values()))
    made = _written(members, compress=compress)
    return made if total <= _most(len(made)) else _written(members, compress=False)


def _written(members: Mapping[str, bytes], *, compress: bool) -> bytes:
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.create_system = 3  # Unix, wherever it is written
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, kind)
    return buffer.getvalue()


def names(data: bytes, origin: str) -> list[str]:
    """List the members of an archive.

    Raises:
        BrokenPackage: It is no archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except _DAMAGE as error:
        _refuse(origin, f"it is not a whole zip archive ({error})")


def read(
    data: bytes, origin: str, *, gaps: bool = False, check: Check | None = None
) -> dict[str, bytes]:
    """Read all members of an archive, by name.

    Args:
        data: The bytes of the archive.
        origin: Where they came from, for messages.
        gaps: Whether there may be bytes that belong to no member, and extra fields:
            torch aligns its members with them.
        check: What looks at the sizes before anything is unpacked but what it asks
            for.

    Raises:
        BrokenPackage: It is no archive, is damaged, or is more than it seems.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _refuse_strange(entries, len(data), origin)
            if not gaps:
                _refuse_gaps(data, entries, archive.start_dir, origin)
            if check is not None:
                sizes = {entry.filename: entry.file_size for entry in entries}
                check(sizes, lambda name: _content(archive, archive.getinfo(name)))
            return {entry.filename: _content(archive, entry) for entry in entries}
    except _DAMAGE as error:
        _refuse(origin, f"it is not a whole zip archive ({error})")


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as file:
        found = file.read(entry.file_size + 1)
    if len(found) != entry.file_size:
        message = f"{entry.filename} should have {entry.file_size} bytes"
        raise ValueError(message)
    return found


def _most(size: int) -> int:
    """Say to how many bytes an archive of `size` bytes may unpack."""
    return min(MOST_BYTES, _SMALL_BYTES + _MOST_RATIO * size)


def _refuse_strange(entries: list[zipfile.ZipInfo], size: int, origin: str) -> None:
    if len(entries) > MOST_MEMBERS:
        _refuse(origin, f"it has {len(entries)} members, and may have {MOST_MEMBERS}")
    total = sum(entry.file_size for entry in entries)
    if total > _most(size):
        _refuse(origin, f"it unpacks to {total} bytes, and may to {_most(size)}")
    seen: set[str] = set()
    for entry in entries:
        # What a system that takes no difference of case would write to one file.
        name, key = entry.filename, entry.filename.casefold()
        reason = _strange(entry) or ("is there twice" if key in seen else "")
        if reason:
            _refuse(origin, f"member {name!r} {reason}")
        seen.add(key)


def _strange(entry: zipfile.ZipInfo) -> str:
    """Say what is suspicious about a member, if anything is."""
    name = entry.orig_filename
    parts = name.split("/")
    if (
        len(parts) == 1
        or not {"", ".", ".."}.isdisjoint(parts)
        or not name.isprintable()
        or any(letter in name for letter in "\\:")
        or len(name) > _LONGEST_NAME
    ):
        return "has a name that is no path inside of a folder"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device, and no file"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed in the way {entry.compress_type}"
    stored = entry.compress_type == zipfile.ZIP_STORED
    most = entry.compress_size * (1 if stored else _BEST_RATIO)
    if entry.file_size > most:
        return f"cannot have {entry.file_size} bytes: it takes {entry.compress_size}"
    return ""


def _refuse_gaps(
    data: bytes, entries: list[zipfile.ZipInfo], directory: int, origin: str
) -> None:
    """Refuse bytes before, between or behind the members: nothing vouches for them."""
    at = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset != at:
            _refuse(origin, f"there are bytes before {entry.filename} that nobody owns")
        name, extra = struct.unpack_from("<HH", data, at + _LOCAL_BYTES - 4)
        if extra or entry.extra or entry.comment:
            _refuse(origin, f"{entry.filename} has a comment or another extra field")
        at += _LOCAL_BYTES + name + extra + entry.compress_size
    end = len(data) - _END_BYTES
    (size,) = struct.unpack_from("<I", data, end + 12)
    if at != directory or data[end : end + 4] != b"PK\5\6" or at + size != end:
        _refuse(origin, "there are bytes behind its members that nobody owns")


def _refuse(origin: str, reason: str) -> NoReturn:
    raise BrokenPackage(origin, reason)
