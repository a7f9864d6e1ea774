"""Run a function, or a test, where it may crash or hang: in a forked child.

The parent has torch imported and has run nothing with it: after OpenMP ran in a
parent, a forked child hangs. So a child costs milliseconds, starts warm, and
its end tells the whole story: an answer, a signal, or silence until the deadline.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import pickle
import resource
import select
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
import warnings
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NoReturn

from conformance.compilers import reuse_objects
from conformance.fresh import Completed, Died, fresh_python
from conformance.imports import keep_cuda_out, lenient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Completed", "Died", "Ending", "fresh_python", "run_forked", "warm_up"]

# What a child would otherwise import again and again, 3 s each time.
_WARM = (
    "torch.export",
    "torch._dynamo",
    "torch._inductor.compile_fx",
    "torch._inductor.package",
)

# Parts of the lines of a stack that tell nothing about the test.
_HARNESS = (
    "/_pytest/",
    "/pluggy/",
    "/pytest/__main__.py",
    "/xdist/",
    "/execnet/",
    "<frozen runpy>",
)
_HARNESS_FILES = (
    " in protocol",
    " in run_forked",
    " in run_isolated",
    " in run_test",
    " in pytest_runtest_protocol",
    " in _child",
)

# filelock refuses a fork while another thread forks.
_ONE_FORK_AT_A_TIME = threading.Lock()

_HEADER = struct.Struct("!Q")
_GRACE_S = 0.5  # for the stack to be written between the deadline and the kill


@dataclass(frozen=True)
class Ending:
    """How a child ended.

    Args:
        kind: `answer`, `broken` (it raised), `crash` (a signal, or it left
            without an answer) or `timeout`.
        answer: What the function returned, if `kind` is `answer`.
        text: What happened, for people: one sentence, then perhaps a stack.
        seconds: From the fork to the end.
        peak_rss_mib: The most memory that the child had resident at once.
    """

    kind: str
    answer: Any
    text: str
    seconds: float
    peak_rss_mib: float


def prepare_environment() -> None:
    """Keep torch's import from touching the GPU or starting processes of its own.

    A context made in the parent would be of no use in the children, and break
    them; Inductor's pool of compiling processes belongs to the child that uses it.
    And what calls the kernels of a graph is compiled for debugging: that takes the
    C++ compiler four fifths of the time, most of what a small graph costs.
    """
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    os.environ.setdefault("TORCH_WARM_POOL", "0")
    os.environ.setdefault("AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL", "Og")


def warm_up(cache: Path | None = None) -> None:
    """Import what the children will need, if torch is wanted at all; run nothing.

    Args:
        cache: The folder of all caches, if children will compile: what each of them
            would try of the processor, by compiling for it, is found out here, and
            ccache is put to use.
    """
    if cache is not None:
        os.environ["AOTI_CACHE"] = str(cache)
    if "torch" in sys.modules:
        keep_cuda_out()
        with lenient():
            for name in _WARM:
                importlib.import_module(name)
            if cache is not None:
                from conformance.cache import keep_inductor_in

                keep_inductor_in(cache)
                reuse_objects(cache)
                isa: Any = importlib.import_module("torch._inductor.cpu_vec_isa")
                isa.valid_vec_isa_list()
    for name in ("conformance.pipelines", "conformance.loopback"):
        if name in sys.modules:
            sys.modules[name].warm_up()


def run_forked(function: Callable[[], Any], *, deadline_s: float) -> Ending:
    """Call `function` in a forked child and bring home what it returns, pickled.

    The child leads a process group of its own, which is killed to the last
    member when the child has ended or `deadline_s` is over.
    """
    began = time.monotonic()
    reading, writing = os.pipe()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stacks:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # xdist's worker has a thread that waits for its controller, no more.
            warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
            with _ONE_FORK_AT_A_TIME:
                pid = os.fork()
        if pid == 0:
            os.close(reading)
            _child(function, writing, stacks)
        os.close(writing)
        try:
            payload, in_time = _receive(pid, reading, began + deadline_s)
            if not in_time:
                _ask_for_stack(pid)
        finally:
            os.close(reading)
            status, peak_rss_mib = _bury(pid, began + deadline_s)
        stacks.seek(0)
        stack = _without_harness(stacks.read())
    kind, answer, text = _verdict(payload, status, deadline_s, stack, in_time=in_time)
    return Ending(kind, answer, text, time.monotonic() - began, peak_rss_mib)


def _child(function: Callable[[], Any], writing: int, stacks: IO[str]) -> NoReturn:
    """Do the child's part; it never returns into the parent's program."""
    me = os.getpid()
    status = 70
    try:
        os.setsid()
        # Crashes are expected here: no core files.
        resource.setrlimit(
            resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])
        )
        faulthandler.enable(file=stacks, all_threads=True)
        faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
        try:
            message = pickle.dumps((True, function()))
        except BaseException:  # noqa: BLE001  # the child has nowhere else to go
            message = pickle.dumps((False, traceback.format_exc()))
        sys.stdout.flush()
        sys.stderr.flush()
        # A child of the child that came back up here has nothing to say.
        if os.getpid() == me:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(_HEADER.pack(len(message)) + message)
            status = 0
    finally:
        os._exit(status)


def _receive(pid: int, reading: int, deadline: float) -> tuple[bytes | None, bool]:
    """Read the child's message, if one comes before it dies or the deadline passes.

    The end of the pipe is no sign of death: grandchildren may hold it open.
    """
    buffer = bytearray()
    watched = select.poll()
    watched.register(reading, select.POLLIN)
    death = _death_of(pid)
    if death is not None:
        watched.register(death, select.POLLIN)
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            ready = {fd for fd, _ in watched.poll(left_s * 1000)}
            if reading in ready:
                chunk = os.read(reading, 1 << 20)
                buffer += chunk
                if len(buffer) >= _HEADER.size:
                    size = _HEADER.unpack_from(buffer)[0] + _HEADER.size
                    if len(buffer) >= size:
                        return bytes(buffer[_HEADER.size : size]), True
                if not chunk:
                    return None, True
            elif ready:
                return None, True
        return None, False
    finally:
        if death is not None:
            os.close(death)


def _death_of(pid: int) -> int | None:
    """Return a descriptor that turns readable when `pid` dies, where there are such."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def _ask_for_stack(pid: int) -> None:
    """Have a child that is late write down where it is."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
        time.sleep(_GRACE_S)


def _bury(pid: int, deadline: float) -> tuple[int, float]:
    """Let the child end until the deadline, kill its group, and reap it."""
    death = _death_of(pid)
    if death is not None:
        watched = select.poll()
        watched.register(death, select.POLLIN)
        watched.poll(max(deadline - time.monotonic(), 0) * 1000)
        os.close(death)
        # Before reaping: the dead child still keeps its number from being reused.
        _kill_group(pid)
        _, status, usage = os.wait4(pid, 0)
    else:
        if time.monotonic() >= deadline:
            _kill_group(pid)
        _, status, usage = os.wait4(pid, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    unit = 1 if sys.platform == "darwin" else 1024
    return status, usage.ru_maxrss * unit / 2**20


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _without_harness(stack: str) -> str:
    """Leave out of a stack what is under every test: pytest, and this package."""
    kept = [
        line
        for line in stack.splitlines()
        if not line.startswith(("Extension modules:", '  File "<string>"'))
        and not any(part in line for part in _HARNESS)
        and not line.endswith(_HARNESS_FILES)
    ]
    return "\n".join(kept)


def _verdict(
    payload: bytes | None, status: int, deadline_s: float, stack: str, *, in_time: bool
) -> tuple[str, Any, str]:
    if payload is not None:
        good, answer = pickle.loads(payload)  # noqa: S301  # from our own child
        return ("answer", answer, "") if good else ("broken", None, answer)
    if not in_time:
        return (
            "timeout",
            None,
            f"still running after {deadline_s:g} s, killed\n{stack}".rstrip(),
        )
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return "crash", None, f"ended by {name}\n{stack}".rstrip()
    code = os.WEXITSTATUS(status)
    return (
        "crash",
        None,
        f"the process left with exit code {code} in the middle of the test",
    )
