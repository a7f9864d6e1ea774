"""What the clauses of chapter PRC share: functions for jobs, and looks from outside."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import torch

from conformance import gauges, isolated
from conformance.adapter import load
from conformance.clauses import _unpacking
from conformance.models import applying, blocks, quantised
from conformance.workbench import pair, ran_compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from conformance.adapter import Workers
    from conformance.cache import PackageCache
    from conformance.workbench import Pair

_DESCRIPTORS = Path("/proc/self/fd")
_SEGMENTS = Path("/dev/shm")  # noqa: S108  # it is looked at, and no more

LONG_S = 25.0  # what hangs, hangs so long: past every limit that is asked for


def compiled_call(module: nn.Module, x: torch.Tensor) -> Callable[..., Any]:
    """Make a function that calls an applied module, and proves that it did."""

    def call() -> Any:
        with torch.no_grad(), ran_compiled(module):
            return module(x)

    return call


def noisy_twins(impl: Workers, cache: PackageCache, seed: int) -> Pair:
    """Give a Noisy, and a copy that calls compiled code, in a process that may fork.

    A compiler that finds a GPU may start CUDA, even for a CPU: it has its own process.
    """
    module, call = blocks.seeded(applying.Noisy, seed), applying.kinds_call()
    isolated.run_forked(
        lambda: cache.compiled(module, call) and None, deadline_s=_unpacking.COMPILE_S
    )
    return pair(impl, cache, module, call)


def sleep_in_native_code() -> None:
    """Hang without ever giving Python a chance."""
    ctypes.PyDLL(None).sleep(int(LONG_S))


def sleep_in_python() -> None:
    time.sleep(LONG_S)


def noting_its_process(path: Path, function: Callable[[], Any]) -> Callable[[], Any]:
    """Make a function that writes the number of its process to `path` first."""

    def noted() -> Any:
        path.write_text(str(os.getpid()))
        return function()

    return noted


def appears(path: Path, within_s: float) -> bool:
    """Wait for a file."""
    until = time.monotonic() + within_s
    while time.monotonic() < until and not path.exists():
        time.sleep(0.01)
    return path.exists()


def is_gone(path: Path, within_s: float) -> bool:
    """Wait for the end of the process whose number is in `path`, its body included."""
    pid, until = int(path.read_text()), time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def kill_and_wait(pid: int, within_s: float = 30) -> None:
    """Kill a process, and wait until it has ended; its parent may not know yet."""
    os.kill(pid, signal.SIGKILL)
    proc, until = Path("/proc", str(pid)), time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            state = (proc / "stat").read_text().rpartition(")")[2].split()[0]
            # The first thread may be dead while others are still dying.
            if state == "Z" and len(list((proc / "task").iterdir())) == 1:
                return
        except OSError:  # its parent has buried it
            return
        time.sleep(0.01)
    raise TimeoutError(f"process {pid} has been killed and still runs")


class Belongings(NamedTuple):
    """What a process holds that it could leave behind."""

    descriptors: set[str]
    threads: set[str]
    children: set[int]
    segments: set[str]


def belongings() -> Belongings:
    """Look at this process from outside."""
    descriptors = {
        f"{name} {target}"
        for name in _DESCRIPTORS.iterdir()
        if (target := _target(name)) and not target.endswith("/fd")
    }
    names = {thread.name for thread in threading.enumerate()}
    return Belongings(
        descriptors,
        names,
        set(_descendants()),
        set(map(str, _SEGMENTS.iterdir())),
    )


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # the one that listed them
        return ""


def left_behind(before: Belongings, within_s: float = 3) -> list[str]:
    """Name what came since, once those that were killed have had time to end."""
    until = time.monotonic() + within_s
    while (now := belongings()) != before and time.monotonic() < until:
        time.sleep(0.05)
    fields = zip(before._asdict().items(), now, strict=True)
    return [f"{name}: {old} -> {new}" for (name, old), new in fields if new != old]


def _descendants() -> Iterator[int]:
    """List this process's children, and other living processes of its session."""
    own, session = os.getpid(), os.getsid(0)
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        # Dead ones of another parent are for that one to bury.
        alive = stat[0] != "Z" and int(stat[3]) == session
        if int(entry.name) != own and (int(stat[1]) == own or alive):
            yield int(entry.name)


def ended_after(function: Callable[[], Any], seconds: float) -> int:
    """Kill a forked child that runs `function` after so many seconds."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def files(folder: Path) -> set[str]:
    """List all files below a folder."""
    return {str(path) for path in folder.rglob("*")}


def starts_of_cuda(adapter: str, folder: str, seed: int) -> Any:
    """Do all that a parent does, in a fresh process; say what would start CUDA."""

    def all_of_it(impl: Any) -> None:
        module = blocks.seeded(applying.Noisy, seed)
        impl.export(module, applying.kinds_call())
        impl.apply(impl.load(Path(folder)), module)

    return _starts(adapter, all_of_it)


def _starts(adapter: str, what: Callable[[Any], None]) -> dict[str, Any]:
    asked: list[str] = []

    def recording(name: str) -> Callable[..., None]:
        return lambda *_args, **_kwargs: asked.append(name)

    with (
        patch.object(torch.cuda, "_lazy_init", recording("_lazy_init")),
        patch.object(torch._C, "_cuda_init", recording("_cuda_init"), create=True),
    ):
        what(load(adapter))
    return {
        "asked": asked,
        "started": bool(torch.cuda._initialized),
        "driver": gauges.cuda_driver_started(),
    }


def starts_of_cuda_when_quantised(adapter: str, seed: int) -> Any:
    """Quantise and export in a fresh process; say what would start CUDA."""

    def all_of_it(impl: Any) -> None:
        module = quantised.plain(quantised.Mlp, seed)
        impl.quantize(module, "weight_only")
        impl.export(module, quantised.call())

    return _starts(adapter, all_of_it)


def answered_in_a_spawned_process(module: nn.Module, seed: int, path: str) -> None:
    """Call a Noisy that came as an argument; write down its answer."""
    torch.set_num_threads(1)
    with torch.no_grad():
        answer = module(*applying.kinds_call(seed).args).tolist()
    Path(path).write_bytes(pickle.dumps(answer))
