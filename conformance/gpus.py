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
_LOCKS = "AOTI_GPU_LOCKS"
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


def held_for(item: pytest.Item) -> contextlib.AbstractContextManager[None]:
    """Hold what a test needs, as `held` has it."""
    every = item.get_closest_marker("multi_gpu") is not None
    return held(alone=wants_alone(item), every=every)


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


def unpin() -> None:
    """See all GPUs of the caller again: where CUDA was not started yet."""
    if callers := os.environ.pop(_CALLERS, ""):
        os.environ[_VISIBLE] = callers


def share(*, among: int, workers: int, locks: Iterable[Path]) -> None:
    """Note who else runs tests beside this process.

    Args:
        among: How many workers have its GPU.
        workers: How many there are: each compiles with its part of the cores.
        locks: Files by which workers agree on who uses a GPU: first that of this
            process's, then those of the caller's other ones.
    """
    cores = max((os.cpu_count() or 1) // workers, 1)
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(cores))
    os.environ[_SHARING] = str(among)
    os.environ[_LOCKS] = os.pathsep.join(map(str, locks))


def sharing() -> int:
    """Say how many workers have the GPU of this process: 1, if nobody said."""
    return int(os.environ.get(_SHARING, "1"))


@contextlib.contextmanager
def held(*, alone: bool = False, every: bool = False) -> Iterator[None]:
    """Hold the GPU of this process in the block, beside other workers.

    Args:
        alone: Wait until no other worker uses it. Meanwhile others begin new tests, so
            what wants a GPU alone should come last.
        every: Hold the caller's other GPUs too.
    """
    named = os.environ.get(_LOCKS)
    if not named:
        yield
        return
    import fcntl  # a plugin is imported on every platform

    workers = sharing()
    with contextlib.ExitStack() as opened:
        locks = named.split(os.pathsep)
        # In one order for all workers, or two would wait for each other's.
        for path in sorted(locks) if every else locks[:1]:
            file = opened.enter_context(Path(path).open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        os.environ[_SHARING] = "1" if alone else str(workers)
        try:
            yield
        finally:
            os.environ[_SHARING] = str(workers)


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
