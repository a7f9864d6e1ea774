"""How much memory a piece of work takes at most, beside what was there before.

The kernel and torch keep a record of the highest mark, but it is the process's, not
the work's, and to reset it would spoil it for whoever else is reading it. So a thread
looks now and then, and the record counts where the work has broken it.
"""

from __future__ import annotations

import functools
import os
import resource
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, Protocol, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STATM = Path("/proc/self/statm")
_PAUSE_S = 0.01
# The record is in bytes on macOS, and in KiB everywhere else.
_UNIT = 1 if sys.platform == "darwin" else 1024


class Peak(NamedTuple):
    """Memory that a compile had in use at most, beyond what was there before.

    Args:
        host_bytes: Resident memory of this process, that of the libraries that it
            has loaded for the compile included. The C++ compiler has processes of its
            own, and is not counted.
        device_bytes: What torch's allocator gave out on all GPUs together; 0 where
            CUDA was not started.
    """

    host_bytes: int
    device_bytes: int


class _Telling(Protocol):
    @property
    def peak(self) -> Peak | None: ...


P = ParamSpec("P")
R = TypeVar("R", bound=_Telling)


def told(function: Callable[P, R]) -> Callable[P, R]:
    """Let what `function` returns tell the memory that it took, as its `peak`."""

    @functools.wraps(function)
    def measured(*args: P.args, **kwargs: P.kwargs) -> R:
        with _watched() as watch:
            made = function(*args, **kwargs)
        # Results are frozen for everybody else.
        object.__setattr__(made, "peak", watch.peak())
        return made

    return measured


class _Marks(NamedTuple):
    host: int
    device: int


class _Watch:
    """Looks at memory from a thread of its own until it is told to stop."""

    def __init__(self) -> None:
        self._before, self._record = _now(), _record()
        self._highest = self._before
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end, and look a last time."""
        self._stop.set()
        self._thread.join()
        self._note(_now())
        after = _record()
        broken = (
            new if new > old else 0
            for new, old in zip(after, self._record, strict=True)
        )
        self._note(_Marks(*broken))

    def peak(self) -> Peak:
        """Tell by how much memory has grown at most."""
        pairs = zip(self._highest, self._before, strict=True)
        return Peak(*(high - before for high, before in pairs))

    def _look(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            self._note(_now())

    def _note(self, marks: _Marks) -> None:
        self._highest = _Marks(*map(max, self._highest, marks))


@contextmanager
def _watched() -> Iterator[_Watch]:
    watch = _Watch()
    try:
        yield watch
    finally:
        watch.stop()


def _now() -> _Marks:
    return _Marks(_resident(), _on_gpus(torch.cuda.memory_allocated))


def _record() -> _Marks:
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _Marks(highest * _UNIT, _on_gpus(torch.cuda.max_memory_allocated))


def _resident() -> int:
    """Read what is resident; the record, where nothing else is to be had."""
    try:
        pages = _STATM.read_bytes().split()[1]
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _on_gpus(count: Callable[[int], int]) -> int:
    """Add up a count over all GPUs; to look does not start CUDA."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return 0
    return sum(count(index) for index in range(torch.cuda.device_count()))
