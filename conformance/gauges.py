"""What a process holds, seen from outside: memory, tensors, libraries, descriptors.

Memory is that of the device under test. torch's own statistics do not see what is
allocated beside its allocators, as AOTInductor does; the driver and /proc do.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from conformance import device, gpus
from conformance.spec import blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PROC = Path("/proc/self")
_ROUNDS = 3
# Libraries of the machine and of Python come and go with what is imported.
_SYSTEM = ("/usr/", "/lib", "/opt/", sys.prefix, sys.base_prefix)


def used_bytes() -> int:
    """Memory that this process has taken on the device, touched or not."""
    gc.collect()
    if _on_gpu():
        return _gpu_bytes()
    found = _status()
    return found["VmData"] + found.get("RssShmem", 0)


def resident_bytes() -> int:
    """Memory on the device that is in use: on a CPU what was touched."""
    gc.collect()
    if _on_gpu():
        return _gpu_bytes()
    # What was freed and not returned would hide a leak until it is used up.
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
    found = _status()
    return found["RssAnon"] + found.get("RssShmem", 0)


class Peak:
    """How much memory a block had in use at most, beyond what was before."""

    grown_bytes = 0


@contextlib.contextmanager
def peak() -> Iterator[Peak]:
    """Watch the block for its peak; `grown_bytes` is set when it has ended."""
    found = Peak()
    gc.collect()
    if _on_gpu():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield found
        found.grown_bytes = torch.cuda.max_memory_allocated() - before
        return
    before = _status()["VmRSS"]
    try:
        (_PROC / "clear_refs").write_text("5")  # forget the peak so far
    except OSError as error:
        blocked(f"this machine cannot reset the peak of memory: {error}")
    yield found
    found.grown_bytes = _status()["VmHWM"] - before


def tensors(least_bytes: int = 0) -> dict[int, int]:
    """Give address and size of every storage of `least_bytes` that Python reaches."""
    gc.collect()
    found: dict[int, int] = {}
    for each in gc.get_objects():
        if type(each) in (torch.Tensor, nn.Parameter):
            with contextlib.suppress(RuntimeError):  # a fake tensor in disguise
                storage = each.untyped_storage()
                if storage.nbytes() >= least_bytes and storage.device.type != "meta":
                    found[storage.data_ptr()] = storage.nbytes()
    return found


def libraries() -> set[tuple[str, str]]:
    """Name the mapped files with code that are no part of the system, with inode."""
    found: set[tuple[str, str]] = set()
    for line in (_PROC / "maps").read_text(encoding="utf-8").splitlines():
        _, rights, _, _, inode, *path = line.split(maxsplit=5)
        if "x" in rights and inode != "0" and not path[0].startswith(_SYSTEM):
            found.add((path[0], inode))
    return found


def cuda_driver_started() -> bool:
    """Whether this process started CUDA's driver; asking does not start it.

    Open files of the GPU do not tell: NVML has the same ones open, and does no harm.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:  # nothing has loaded it
        return False
    not_initialized = 3
    return int(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int()))) != not_initialized


def descriptors() -> set[str]:
    """Name the open file descriptors."""
    return {path.name for path in (_PROC / "fd").iterdir()}


class Slope(NamedTuple):
    """A straight line through readings: its growth by step, and the standard error."""

    per_step: float
    error: float

    def __str__(self) -> str:
        return f"{self.per_step / 1024:.1f} +- {self.error / 1024:.1f} KiB a step"


def slope(readings: Sequence[int]) -> Slope:
    """Lay a straight line through readings, one for each step.

    >>> print(slope([0, 1024, 2048, 3072]))
    1.0 +- 0.0 KiB a step
    """
    count = len(readings)
    middle, mean = (count - 1) / 2, sum(readings) / count
    spread = sum((i - middle) ** 2 for i in range(count))
    rise = sum((i - middle) * (r - mean) for i, r in enumerate(readings)) / spread
    left = sum(
        (r - mean - rise * (i - middle)) ** 2 for i, r in enumerate(readings)
    ) / (count - 2)
    return Slope(rise, (left / spread) ** 0.5)


def assert_leaks_less(
    limit_bytes: int, step: Callable[[int], object], *, steps: int
) -> None:
    """Assert that memory in use does not grow by `limit_bytes` with every step.

    A leak shows in every round, and noise does not: one round of three is enough.

    Args:
        limit_bytes: What the slope and two of its standard errors must stay below.
        step: What is done; it gets its number.
        steps: How often, in each round.
    """
    __tracebackhide__ = True
    found: list[str] = []
    for number in range(steps // 4):  # allocators settle
        step(number)
    gc.collect()
    gc.freeze()  # a collection looks at what the steps make, and takes no time
    try:
        for _ in range(_ROUNDS):
            readings: list[int] = []
            for number in range(steps):
                step(number)
                readings.append(resident_bytes())
            line = slope(readings)
            if line.per_step + 2 * line.error < limit_bytes:
                return
            found.append(str(line))
    finally:
        gc.unfreeze()
    message = f"memory grows, where {limit_bytes / 1024:g} KiB are allowed"
    raise AssertionError(f"{message}: {', '.join(found)}")


def _on_gpu() -> bool:
    return device.chosen().startswith("cuda")


def _gpu_bytes() -> int:
    if (workers := gpus.sharing()) > 1:  # the driver counts what all of them have
        blocked(
            f"{workers} workers share the GPU, and this test asked for no gpu_alone"
        )
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def _status() -> dict[str, int]:
    """Read the sizes in /proc/self/status, in bytes."""
    if not (_PROC / "status").exists():
        blocked("only Linux tells in /proc what a process has")
    rows = (_PROC / "status").read_text(encoding="utf-8").splitlines()
    pairs = [row.split(":", 1) for row in rows if row.endswith(" kB")]
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def entries(folder: Path) -> list[str]:
    """Name what is in `folder` and below, each with its inode."""
    found = sorted(folder.rglob("*"))
    return [f"{path.relative_to(folder)} {os.lstat(path).st_ino}" for path in found]
