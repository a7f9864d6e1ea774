"""Read shared libraries, and take from them what does not belong into a package.

Layout: System V ABI, ELF64, little endian. Nothing here trusts a number in a file:
what points out of it is a ValueError.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC = b"\x7fELF\x02\x01"
_EM_CUDA = 190
_PT_LOAD, _PT_DYNAMIC, _PT_NOTE, _PT_GNU_STACK = 1, 2, 4, 0x6474E551
_PF_X = 1
_DT_STRTAB, _DT_VERNEED, _DT_VERNEEDNUM = 5, 0x6FFFFFFE, 0x6FFFFFFF
_NT_GNU_BUILD_ID = 3
_HEADER_BYTES = 64
_VERSIONED = re.compile(r"([A-Z]+)_([0-9]+(?:\.[0-9]+)*)")


class _Segment(NamedTuple):
    place: int  # of its header in the file
    kind: int
    flags: int
    offset: int
    address: int
    size: int


def is_library(data: bytes) -> bool:
    """Whether this is an ELF64 file for a CPU: a GPU's kernels are ELF files too."""
    return data[:6] == _MAGIC and _read("<H", data, 18)[0] != _EM_CUDA


def clear_executable_stack(library: Path) -> bool:
    """Clear the flag in `library`, in place; say whether it was set.

    The generated assembly of constants lacks the note that says it needs none, so the
    linker marks the whole library, and glibc 2.41 and later refuse to load it.
    """
    data = bytearray(library.read_bytes())
    if data[:6] != _MAGIC:
        return False
    for segment in _segments(bytes(data)):
        if segment.kind == _PT_GNU_STACK and segment.flags & _PF_X:
            struct.pack_into("<I", data, segment.place + 4, segment.flags & ~_PF_X)
            library.write_bytes(data)
            return True
    return False


def wants_executable_stack(data: bytes) -> bool:
    """Whether a library asks for one; without the header the loader assumes it."""
    found = [s.flags for s in _segments(data) if s.kind == _PT_GNU_STACK]
    return not found or any(flags & _PF_X for flags in found)


def stripped(data: bytes) -> bytes:
    """Leave out what no loader reads: symbols, debugging information, the build's id.

    They name every folder of the machine that compiled, and are most of the file.
    """
    segments = _segments(data)
    loaded = [s.offset + s.size for s in segments if s.kind == _PT_LOAD]
    made = bytearray(data[: max([_HEADER_BYTES, *loaded])])
    struct.pack_into("<Q", made, 40, 0)  # where the sections are
    struct.pack_into("<HHH", made, 58, _HEADER_BYTES, 0, 0)  # and how many
    for segment in segments:
        if segment.kind == _PT_NOTE:
            for start, end in _build_ids(data, segment):
                made[start:end] = bytes(end - start)
    return bytes(made)


def needs(data: bytes) -> dict[str, str]:
    """Read which versions of the system's libraries a library asks for.

    Returns:
        The newest by family: `{"GLIBC": "2.34", "GLIBCXX": "3.4.30"}`.

    Raises:
        ValueError: The file is damaged.
    """
    segments = _segments(data)
    dynamic = next((s for s in segments if s.kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return {}
    tags: dict[int, int] = {}
    for at in range(0, dynamic.size, 16):
        tag, value = _read("<qQ", data, dynamic.offset + at)
        tags[tag] = value
    if _DT_VERNEED not in tags:
        return {}
    names = _offset(segments, tags.get(_DT_STRTAB, 0))
    newest: dict[str, tuple[int, ...]] = {}
    at = _offset(segments, tags[_DT_VERNEED])
    for _ in range(min(tags.get(_DT_VERNEEDNUM, 0), len(data))):
        _, count, _, first, following = _read("<HHIII", data, at)
        entry = at + first
        for _ in range(count):
            _, _, _, name, step = _read("<IHHII", data, entry)
            found = _VERSIONED.fullmatch(_text(data, names + name))
            if found:
                version = tuple(int(part) for part in found[2].split("."))
                newest[found[1]] = max(newest.get(found[1], ()), version)
            entry += step
        at += following
    return {name: ".".join(map(str, v)) for name, v in sorted(newest.items())}


def _segments(data: bytes) -> list[_Segment]:
    (table,) = _read("<Q", data, 32)
    size, count = _read("<HH", data, 54)
    found: list[_Segment] = []
    for place in range(table, table + size * count, size or 1):
        kind, flags, offset, address, _, length = _read("<IIQQQQ", data, place)
        if offset + length > len(data):
            message = f"segment at {offset} ends beyond the file"
            raise ValueError(message)
        found.append(_Segment(place, kind, flags, offset, address, length))
    return found


def _build_ids(data: bytes, notes: _Segment) -> Iterator[tuple[int, int]]:
    at, end = notes.offset, notes.offset + notes.size
    while at + 12 <= end:
        name_size, size, kind = _read("<III", data, at)
        start = at + 12 + -(-name_size // 4) * 4
        if kind == _NT_GNU_BUILD_ID and start + size <= end:
            yield start, start + size
        at = start + -(-size // 4) * 4


def _offset(segments: list[_Segment], address: int) -> int:
    for segment in segments:
        if segment.kind == _PT_LOAD and 0 <= address - segment.address < segment.size:
            return address - segment.address + segment.offset
    message = f"address {address} is in no segment"
    raise ValueError(message)


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode("ascii", "replace")


def _read(form: str, data: bytes, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, data, at)
    except struct.error as error:
        raise ValueError(str(error)) from error
