"""The GPUs that a run may use, the workers that get them, the tests that need them.

Names are those of CUDA_VISIBLE_DEVICES: numbers, or the long ones that begin with GPU-
or MIG-. Nothing here starts CUDA.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.isolated import prepare_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_SHARING = "AOTI_GPU_WORKERS"
_LOCK = "AOTI_GPU_LOCK"
_CALLERS = "AOTI_GPUS"  # what was visible before a worker was given its own

MARKERS = {
    "gpu": "only a GPU decides it",
    "hopper": "it multiplies FP8, as GPUs of compute capability 9.0 do (8.9 will do)",
    "multi_gpu": "it takes two GPUs at least",
    "gpu_alone": "it measures its GPU, which no other worker uses meanwhile",
}
_BY_FIXTURE = {
    "gpu_alone": "gpu_alone",
    "on_a_gpu": "gpu",
    "on_fp8": "hopper",
    "two_gpus": "multi_gpu",
}


def markers_of(fixtures: Iterable[str]) -> list[str]:
    """Name the markers of a test that asks for these fixtures.

    >>> markers_of(["impl", "on_a_gpu", "two_gpus"])
    ['gpu', 'multi_gpu']
    """
    return sorted({_BY_FIXTURE[name] for name in fixtures if name in _BY_FIXTURE})


def mark(item: pytest.Item) -> None:
    """Mark a test with what it needs of the machine, for `pytest -m`."""
    for name in markers_of(getattr(item, "fixturenames", ())):
        item.add_marker(name)


def wants_alone(item: pytest.Item) -> bool:
    """Say whether a test measures what the whole GPU holds."""
    return item.get_closest_marker("gpu_alone") is not None


def visible() -> list[str]:
    """Name the GPUs that this process may use, in the caller's order."""
    given = os.environ.get(_VISIBLE)
    if given is None:
        prepare_environment()
        import torch  # the driver's library for management counts, and starts nothing

        return [str(number) for number in range(torch.cuda.device_count())]
    names: list[str] = []
    for entry in given.split(","):
        name = entry.strip()
        if not name or name.startswith("-"):
            break  # CUDA looks no further either
        names.append(name)
    return names


def pin(name: str, callers: Iterable[str]) -> None:
    """Leave one GPU in the sight of this process and its children.

    Args:
        name: Of the GPU.
        callers: All that the caller has.
    """
    os.environ[_VISIBLE] = name
    os.environ[_CALLERS] = ",".join(callers)


def share(*, among: int, lock: Path) -> None:
    """Note how many workers have the GPU of this process.

    Args:
        among: How many.
        lock: The file by which they agree on who uses it.
    """
    os.environ[_SHARING], os.environ[_LOCK] = str(among), str(lock)
    if among > 1:  # each compiles beside the others, not by a pool of its own
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


def sharing() -> int:
    """Say how many workers have the GPU of this process: 1, if nobody said."""
    return int(os.environ.get(_SHARING, "1"))


@contextlib.contextmanager
def held(*, alone: bool) -> Iterator[None]:
    """Hold the GPU of this process beside its other workers, or wait to have it alone.

    Whoever waits lets the others begin new tests: what wants the GPU alone comes last.
    """
    workers = sharing()
    if workers == 1:
        yield
        return
    import fcntl  # a plugin is imported on every platform

    with Path(os.environ[_LOCK]).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        os.environ[_SHARING] = "1" if alone else str(workers)
        try:
            yield
        finally:
            os.environ[_SHARING] = str(workers)


def hidden() -> int:
    """Count the GPUs that the caller has and this process does not see."""
    callers = os.environ.get(_CALLERS, "")
    return max(callers.count(","), 0)


class Pool:
    """Gives a GPU to each worker: one that fewest of the living have.

    >>> pool = Pool(["2", "3"])
    >>> pool.take("gw0"), pool.take("gw1")
    ('2', '3')
    >>> pool.give("gw1")
    >>> pool.take("gw2"), pool.take("gw3")
    ('3', '2')
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self._taken: dict[str, str] = {}

    def take(self, worker: str) -> str:
        """Choose a GPU for a worker."""
        held = list(self._taken.values())
        self._taken[worker] = min(self.names, key=held.count)
        return self._taken[worker]

    def give(self, worker: str) -> None:
        """Take back what a worker had, now that it has ended."""
        self._taken.pop(worker, None)
