"""Folders for temporary files that carry their owner's name, and go with him.

A compiled graph is run from files: a library, and on a GPU kernels beside it that the
driver reads when they are first launched. So a package has one folder in a process,
on every kind of device, until the process ends.

A process that is killed removes nothing. The name of a folder therefore says whose it
is: `aoti_ref-MARK-PID-START-RANDOM`. START, the time at which the owner started, tells
him from a later process with his number; MARK stands for the boot and the pid
namespace, since a TMPDIR may be shared with containers and machines whose processes
cannot be seen from here. `sweep_dead` removes the folders of owners that are seen to
be dead, and nothing else. A forked child is another owner: it uses what its parent
has loaded, unpacks anew what it loads itself, and removes nothing of its parent's.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from aoti_ref._errors import UnusableFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "aoti_ref"
_NAME = re.compile(rf"{_PREFIX}-([0-9a-f]+)-([0-9]+)-([0-9]+)-\w+")
_PROC = Path("/proc")

_sweeper = 0  # the process that has swept; a forked child has not


class Folder:
    """A private folder that goes when this object does, in the process that made it.

    The first one of a process sweeps what dead processes have left.

    Raises:
        UnusableFolder: There is no folder for temporary files, or it cannot be used.
    """

    def __init__(self) -> None:
        global _sweeper  # noqa: PLW0603  # one sweep for each process
        self.owner = os.getpid()
        if _sweeper != self.owner:
            _sweeper = self.owner
            sweep_dead()
        root = _root()
        try:
            self.path = Path(tempfile.mkdtemp(prefix=named(), dir=root))
        except OSError as error:
            raise UnusableFolder(root, _reason(error)) from error
        self.remove = weakref.finalize(self, _remove, self.path, self.owner)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_error: object) -> None:
        self.remove()

    def fill(self, files: Mapping[str, bytes]) -> None:
        """Write `files`, all of them; the folder goes if that is impossible.

        Raises:
            UnusableFolder: There is no room, or no code may be run from here.
        """
        try:
            for name, data in files.items():
                (self.path / name).write_bytes(data)
            noexec = os.statvfs(self.path).f_flag & os.ST_NOEXEC
            reason = "it is mounted noexec" if noexec else ""
        except OSError as error:
            reason = _reason(error)
        if reason:
            self.remove()
            raise UnusableFolder(_root(), reason)


def sweep_dead() -> None:
    """Remove the folders of processes that are dead, and only those.

    It runs when a process makes its first folder and when one ends. Whoever has
    waited for a child that was killed may call it at once.
    """
    for path in of_the_dead(_root()):
        shutil.rmtree(path, ignore_errors=True)


# Children that end by themselves may leave theirs too: those of multiprocessing call
# os._exit. Their parent's end is soon enough.
atexit.register(sweep_dead)


def named(before: str = "") -> str:
    """Begin the name of a folder that is this process's, after `before`."""
    owner = os.getpid()
    return f"{before}{_PREFIX}-{_mark()}-{owner}-{_started(owner) or 0}-"


def of_the_dead(root: str, before: str = "") -> list[Path]:
    """List the folders in `root` that `named` names, and whose owner is dead."""
    mark = _mark()
    try:
        entries = list(os.scandir(root))
    except OSError:
        return []
    dead: list[Path] = []
    for entry in entries:
        found = _NAME.fullmatch(entry.name.removeprefix(before))
        if not found or not entry.name.startswith(before) or found[1] != mark:
            continue
        try:
            is_ours = entry.is_dir(follow_symlinks=False) and (
                entry.stat(follow_symlinks=False).st_uid == os.geteuid()
            )
            if is_ours and _started(int(found[2])) != found[3]:
                dead.append(Path(entry.path))
        except OSError:  # another process was quicker, or who knows
            continue
    return dead


def _root() -> str:
    """Give the folder for temporary files: TMPDIR as it is now, as torch reads it."""
    return str(Path(os.environ.get("TMPDIR") or tempfile.gettempdir()).absolute())


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"there is no room in it ({error.strerror})"
    return error.strerror or str(error)


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


def _mark() -> str:
    """Name the boot and the pid namespace; empty where neither can be read."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
        space = (_PROC / "self/ns/pid").readlink()
    except OSError:
        return ""
    return hashlib.sha256(f"{boot}{space}".encode()).hexdigest()[:8]


def _started(pid: int) -> str | None:
    """Tell when a process started, in ticks since the boot: None if it is dead."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
        # A zombie is dead, unless it is a first thread that others have outlived.
        threads = len(os.listdir(_PROC / str(pid) / "task"))  # noqa: PTH208
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" and threads == 1 else fields[19]
