"""Mutants of the chapter SEC."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch._inductor

from aoti_ref import _archive, _binding, _library, _manifest, _package
from conformance import archives
from conformance.meta.mutants._packages import (
    FILE,
    any_library,
    before,
    beside,
    careless,
    listed,
    not_checked,
    or_beside,
    passing_over,
    sharing,
    telling,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


# SEC-01 to SEC-03: the archive is handed on first, or strange members passed over.
def _hands_on(path: Path) -> None:
    with contextlib.suppress(RuntimeError):
        torch._inductor.aoti_load_package(str(path))


SEC_01_handed = sharing("SEC-01", load=before(_hands_on))
SEC_01_dropped = sharing("SEC-01", load=passing_over(listed))


def _climbs(name: str) -> bool:
    """Whether a name has `..` between slashes, or between backslashes."""
    return ".." in name.split("/") or ".." in name.split("\\")


def _of_one_kind(members: list[archives.Entry]) -> list[archives.Entry]:
    return [m for m in members if _climbs(m.name) or "\\" not in m.name]


def _files(members: list[archives.Entry]) -> list[archives.Entry]:
    return [m for m in members if not m.name.endswith("/")]


SEC_01_mixed = sharing("SEC-01", load=passing_over(_of_one_kind))
SEC_01_folders = sharing("SEC-01", load=passing_over(_files))
SEC_02_handed = sharing("SEC-02", load=before(_hands_on))
SEC_02_dropped = sharing("SEC-02", load=passing_over(listed))
SEC_03_handed = sharing("SEC-03", load=before(_hands_on))
SEC_03_dropped = sharing("SEC-03", load=passing_over(listed))
SEC_03_beside = sharing("SEC-03", load=or_beside)

# SEC-04: of two members the last counts, and is not checked.
SEC_04 = sharing(
    "SEC-04",
    load=careless(
        (_archive, "_refuse_strange", not_checked),
        (_manifest, "sizes_first", not_checked),
        (_manifest, "hold", not_checked),
    ),
)

# SEC-05: what is in no manifest is passed over.
SEC_05 = sharing("SEC-05", load=passing_over(listed))


# SEC-06: pickles are read, or passed over.
def _unpickles(path: Path) -> None:
    for member in archives.entries(path):
        if member.data[:1] == b"\x80":
            pickle.loads(member.data)  # noqa: S301  # that is what is wrong with it


SEC_06_read = sharing("SEC-06", load=before(_unpickles))
SEC_06_dropped = sharing("SEC-06", load=passing_over(listed))


def _no_texts(members: list[archives.Entry]) -> list[archives.Entry]:
    return [m for m in members if not m.name.endswith(".txt") or m.data[0] > 127]


SEC_06_text = sharing("SEC-06", load=passing_over(_no_texts))

# SEC-07 and SEC-08: everything is unpacked, and then looked at.
SEC_07 = sharing("SEC-07", load=before(archives.entries))
SEC_08 = sharing("SEC-08", load=passing_over(listed))

# SEC-09: what cannot be unpacked is replaced by what lies about.
SEC_09 = sharing("SEC-09", load=or_beside)

# SEC-10 to SEC-12: the package tells of folders, of the environment, of the sources.
SEC_10 = sharing("SEC-10", save=beside("built-in", f"{sys.prefix}/bin".encode))
SEC_11 = sharing("SEC-11", compile=telling(lambda: json.dumps(dict(os.environ))))
SEC_12 = sharing(
    "SEC-12", save=beside("graph.cpp", lambda: b"#include <torch/torch.h>\n")
)


# SEC-13: the file is read again when it is needed, and not checked again.
def _reads_again(folder: Path) -> Any:
    compiled = careless((_binding, "_runner", any_library))(folder)

    def files() -> dict[str, bytes]:
        members = _archive.read((folder / FILE).read_bytes(), "again")
        return _package._graph_files(_package._below(members))

    compiled.package._files = files
    return compiled


SEC_13 = sharing("SEC-13", load=_reads_again)


# SEC-14: what was unpacked before is used again.
class _Known:
    """A folder that everybody can foresee, with what is in it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.path = Path(tempfile.gettempdir()) / "aoti_graph"
        self.path.mkdir(exist_ok=True)

    def fill(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            if not (self.path / name).exists():
                (self.path / name).write_bytes(data)

    def remove(self) -> None:
        """Leave it: it is wanted again."""


SEC_14 = sharing("SEC-14", load=careless((_library, "Folder", _Known)))
