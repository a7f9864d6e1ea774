"""Files and folders that are written whole or not at all.

What is written is made in a folder beside its place, and moved there in one step. A
process that is killed leaves that folder, whose name says whose it is: the next one
that saves something beside it removes it, and puts back what was moved away.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aoti_ref._files import named, of_the_dead

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PREFIX = ".saving-"
_MADE, _BEFORE = "made", "before"


def write_folder(path: Path, files: Mapping[str, bytes], mark: str) -> None:
    """Write a folder of files, whole or not at all, in the place of one like it.

    Args:
        path: Where. An empty folder there is replaced, and one of which `mark` lists
            every file.
        files: By their paths below it.
        mark: The file that lists the others, as JSON under "members".

    Raises:
        FileExistsError: There is something else.
    """
    path = path.absolute()
    with _beside(path) as folder:  # which may put back a folder that was here
        there = path.exists() and (not path.is_dir() or any(path.iterdir()))
        if there:
            _refuse_strange(path, mark)
        made, before = folder / _MADE, folder / _BEFORE / path.name
        for name, data in files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_bytes(data)
        if not there:
            made.replace(path)
            return
        before.parent.mkdir()
        path.rename(before)  # nothing exchanges two folders in one step
        try:
            made.replace(path)
        except BaseException:
            before.rename(path)
            raise


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    target = Path(path)
    with _beside(target) as folder:
        made = folder / _MADE
        made.write_bytes(data)
        made.replace(target)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Make a folder beside `path`, for as long as it is written."""
    parent = path.absolute().parent
    if not parent.is_dir():
        code = errno.ENOTDIR if parent.exists() else errno.ENOENT
        raise OSError(code, os.strerror(code), str(parent))
    for left in of_the_dead(str(parent), _PREFIX):
        _put_back(left, parent)
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=named(_PREFIX), dir=parent))
    try:
        yield folder
    finally:
        # Another process in which the same path is saved may have done it.
        shutil.rmtree(folder, ignore_errors=True)


def _put_back(left: Path, parent: Path) -> None:
    """Put back what was moved away by a process that was killed in the next step."""
    with contextlib.suppress(OSError):
        for before in (left / _BEFORE).iterdir():
            if not os.path.lexists(parent / before.name):
                before.rename(parent / before.name)


def _refuse_strange(path: Path, mark: str) -> None:
    """Refuse to replace what is not all of this project's making."""
    known = {mark, *_listed(path / mark)}
    if not path.is_dir() or not (path / mark).is_file():
        message = f"{path} is there, and has no {mark}: it is not replaced"
        raise FileExistsError(message)
    for found in path.rglob("*"):
        name = found.relative_to(path).as_posix()
        if name not in known and (found.is_symlink() or not found.is_dir()):
            message = f"{path} has {name}, which {mark} does not list: not replaced"
            raise FileExistsError(message)


def _listed(mark: Path) -> set[str]:
    """Read which files a mark lists; none, if it cannot be read."""
    try:
        return set(json.loads(mark.read_bytes())["members"])
    except (OSError, LookupError, TypeError, ValueError, RecursionError):
        return set()
