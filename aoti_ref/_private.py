"""What a package shall not tell of the machine that made it: its folders.

Nor may a name follow from them.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref import _inductor

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIBRARY, _KERNELS = ".wrapper.so", ".kernel_metadata.json"
_SHORTEST = 4  # "/tmp": the shortest folder that is worth hiding


def blotted(data: bytes, private: Sequence[str]) -> bytes:
    """Blot out folders of this machine, letter by letter: nothing may move."""
    for folder in _folders(private):
        name = folder.encode()
        data = data.replace(name + b"/", b"/" + b"x" * (len(name) - 1) + b"/")
    return data


def _folders(others: Sequence[str]) -> list[str]:
    packages = Path(torch.__file__).parent.parent
    known = {
        *others,
        str(Path.home()),
        str(Path.cwd()),
        str(packages),
        sys.prefix,
        sysconfig.get_path("include"),
        site.getuserbase(),
        tempfile.gettempdir(),
        os.environ.get("TMPDIR", ""),
        _inductor.cache_folder(),
    }
    found = {folder.rstrip("/") for folder in known if folder.startswith("/")}
    long = [folder for folder in found if len(folder) >= _SHORTEST]
    return sorted(long, key=len, reverse=True)


def public(value: Any) -> Any:
    """Write an option down, but for folders of this machine."""
    if isinstance(value, (bool, int, float, type(None))):
        return value
    text = value if isinstance(value, str) else repr(value)
    return "<a path>" if "/" in text else text


def renamed(files: Sequence[Path]) -> list[Path]:
    """Name what Inductor says of its kernels after the library that they are in.

    It names that by a hash of what is compiled and of the folder, so that it would be
    another name at each compile. Who loads a graph does not look for it.
    """
    libraries = [file.name for file in files if file.name.endswith(_LIBRARY)]
    told = [file for file in files if file.name.endswith(_KERNELS)]
    if len(libraries) != 1 or len(told) != 1:
        return list(files)
    name = libraries[0].removesuffix(_LIBRARY) + _KERNELS
    return [
        file.rename(file.with_name(name)) if file in told else file for file in files
    ]
