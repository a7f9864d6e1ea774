"""Take the executable stack away from a shared library.

The generated assembly of constants lacks the note that says it needs none, so the
linker marks the whole library, and glibc 2.41 and later refuse to load it.
Layout: System V ABI, program headers of ELF64, little endian.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PT_GNU_STACK = 0x6474E551
_PF_X = 1


def clear_executable_stack(library: Path) -> bool:
    """Clear the flag in `library`, in place; say whether it was set."""
    data = bytearray(library.read_bytes())
    if data[:6] != b"\x7fELF\x02\x01":
        return False
    (table,) = struct.unpack_from("<Q", data, 32)
    entry_size, count = struct.unpack_from("<HH", data, 54)
    for offset in range(table, table + entry_size * count, entry_size):
        kind, flags = struct.unpack_from("<II", data, offset)
        if kind == _PT_GNU_STACK and flags & _PF_X:
            struct.pack_into("<I", data, offset + 4, flags & ~_PF_X)
            library.write_bytes(data)
            return True
    return False
