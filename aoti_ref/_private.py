"""What a package shall not tell of the machine that made it: its folders."""

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
