"""Libraries of compiled graphs: each is unpacked and loaded once in a process.

A library that was loaded is never unmapped (it has C++ symbols that glibc keeps), so
a process that loads the same package again and again would grow with every load.
What was unpacked is therefore kept by its contents until the process ends.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from aoti_ref import _inductor
from aoti_ref._files import Folder
from aoti_ref._locks import Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

_libraries: dict[str, Library] = {}


class Library:
    """The library of one package; `library` gives it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._folder: Folder | None = None

    def runner(
        self, files: Callable[[], Mapping[str, bytes]], device: torch.device
    ) -> _inductor.Runner:
        """Make a runner of it.

        Args:
            files: Gives the files of the package, where it is not unpacked yet.
            device: Where the runner's constants live.

        Raises:
            UnusableFolder: The folder for temporary files is of no use. Nothing is
                left there, and the next call tries again.
        """
        with self._lock:
            folder = self._folder
            if folder is not None and folder.owner == os.getpid():
                return _inductor.new_runner(_wrapper(folder), device)
            folder = Folder()
            folder.fill(files())
            try:
                made = _inductor.new_runner(_wrapper(folder), device)
            except BaseException:
                folder.remove()
                raise
            self._folder = folder
            return made

    def discard(self) -> None:
        """Remove what was unpacked; what is loaded of it stays mapped."""
        with self._lock:
            if self._folder is not None and self._folder.owner == os.getpid():
                self._folder.remove()
            self._folder = None


def library(digest: str) -> Library:
    """Give the library of the package whose contents have this digest."""
    return _libraries.setdefault(digest, Library())


def _wrapper(folder: Folder) -> Path:
    return next(folder.path.glob("*.wrapper.so"))
