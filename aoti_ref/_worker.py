"""Run a function in a short-lived forked child, as ZeroGPU does."""

from __future__ import annotations

import ctypes
import functools
import inspect
import os
import random
import traceback
import weakref
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import torch

from aoti_ref import _internals, _serving, _wire
from aoti_ref._child import Child, unforked
from aoti_ref._locks import Lock
from aoti_ref._task_errors import ChildTraceback, CudaInParent, NotSendable, TaskFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Seconds = float | timedelta | None
    Duration = Seconds | Callable[..., Seconds]

P = ParamSpec("P")
R = TypeVar("R")

_CLOSING_S = 5.0  # for a generator's `finally` blocks, once its caller closed it


@overload
def gpu_task(
    function: Callable[P, R], *, duration: Duration = None, reuse: bool = False
) -> Callable[P, R]: ...
@overload
def gpu_task(
    function: None = None, *, duration: Duration = None, reuse: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def gpu_task(
    function: Callable[..., Any] | None = None,
    *,
    duration: Duration = None,
    reuse: bool = False,
) -> Any:
    """Decorate `function` to run in a forked child, and this process never on a GPU.

    The child is a copy of this process at the moment of the call: modules, globals
    and compiled models that were applied are there, at no cost, and what the child
    does to them goes with it. It costs milliseconds, and gives the GPU's memory
    back when it ends. Called inside of such a child, the function just runs.

    Arguments and results are pickled, tensors as their bytes; results must be on
    the CPU. Exceptions come back as they are, with the child's traceback as cause.
    A generator function gives its items one by one, each computed when it is asked
    for; closing the generator ends the child. Threads and processes that the
    function leaves running end with the child.

    A call while another thread calls one of torch's operators for the first time
    leaves the child without that operator: there it waits forever. A process with
    such threads gives a `duration`, or calls before it starts them.

    Args:
        function: No coroutine function.
        duration: The seconds that a call may take, or a `timedelta`, or a function
            of the arguments that gives either. For a generator, all items together.
        reuse: Keep a child for later calls. It has the state that this process had
            at the first call, and keeps what calls change. A call that comes while
            it is busy gets a child of its own.

    Raises (each call):
        CudaInParent: This process has started CUDA, which no child survives.
        NotSendable: An argument or a result cannot be pickled.
        WorkerDied: The child was ended by a signal, or left without an answer.
        WorkerTimedOut: The call took longer than `duration`; the child was killed.
        TaskFailed: The function raised what cannot be pickled.
    """
    if function is None:
        return partial(gpu_task, duration=duration, reuse=reuse)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        message = "gpu_task takes functions and generators, found a coroutine function"
        raise TypeError(message)
    watch_cuda()
    task = Task(function, duration, reuse=reuse)
    wrapped = function  # its name for the two below, which mypy narrows otherwise

    if inspect.isgeneratorfunction(wrapped):

        @functools.wraps(wrapped)
        def stream(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            if _serving.inside():
                return (yield from wrapped(*args, **kwargs))
            return (yield from task.stream(args, kwargs))

        return stream

    @functools.wraps(wrapped)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _serving.inside():
            return wrapped(*args, **kwargs)
        return task.call(args, kwargs)

    return call


class Task:
    """A function and its pool: one idle child at most, and only on request."""

    def __init__(
        self, function: Callable[..., Any], duration: Duration, *, reuse: bool
    ) -> None:
        self._function = function
        self._name = getattr(function, "__qualname__", repr(function))
        self._duration = duration
        self._reuse = reuse
        self._idle: list[Child] = []
        self._lock = Lock()
        weakref.finalize(self, _end_all, self._idle)

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function in a child, and give what it returns."""
        return self.finish(self.start(args, kwargs))

    def finish(self, child: Child) -> Any:
        """Wait for a child that was started, and give what the function returns."""
        with _or_killed(child):
            answer = child.answer()
        return self._conclude(child, *self._opened(child, answer))

    def stream(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, Any]:
        """Run the generator function in a child, and give its items as they come."""
        child, left = self.start(args, kwargs), False
        with _or_killed(child):
            kind, value = self._opened(child, child.answer())
            while kind == _serving.ITEM and not left:
                sent = None
                try:
                    sent = yield value
                except GeneratorExit:
                    left = True
                    child.limit(_CLOSING_S)
                child.ask(not left, sent)
                kind, value = self._opened(child, child.answer())
        return self._conclude(child, kind, value)

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Child:
        """Have a child begin with the function."""
        limit_s = _seconds(self._duration, args, kwargs)
        _refuse_cuda(self._name)
        try:
            with unforked():
                arguments = _wire.pack((args, kwargs))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise NotSendable(self._name, "argument", reason) from error
        call = _serving.Call(arguments, _serving.Modes.here(), limit_s)
        child = self._warm()
        if child is None:
            serve = partial(_serving.serve, self._function, call, random.getstate())
            child = Child(self._name, serve)
            child.limit(limit_s)
            return child
        child.limit(limit_s)
        with _or_killed(child):
            child.ask(call)
        return child

    def _warm(self) -> Child | None:
        with self._lock:
            child = self._idle.pop() if self._idle else None
        if child is None or child.owner != os.getpid():
            return None
        if child.dead():
            child.end()
            return None
        return child

    def _opened(self, child: Child, answer: _wire.Packed) -> tuple[str, Any]:
        """Put an answer together, in the parent: its classes may be unknown here."""
        kind, packed = _serving.opened(answer)
        try:
            with unforked():
                return kind, _wire.unpack(packed)
        except Exception as error:
            child.end(0)
            reason = f"{type(error).__name__}: {error}"
            raise NotSendable(self._name, kind, reason) from error

    def _conclude(self, child: Child, kind: str, value: Any) -> Any:
        """Give a result, or raise, when the child has been kept or has ended."""
        with self._lock:
            keep = self._reuse and not self._idle
            if keep:
                child.limit(None)
                self._idle.append(child)
        if not keep:
            with _or_killed(child):
                child.finish()
        if kind == _serving.UNSENT:
            raise NotSendable(self._name, *value)
        if kind != _serving.RAISED:
            return value
        packed, name, text = value
        try:
            with unforked():
                error = _wire.unpack(packed)
        except Exception:  # noqa: BLE001  # unpickling runs foreign code
            raise TaskFailed(self._name, name, text) from None
        raise error from ChildTraceback(text)


@contextmanager
def _or_killed(child: Child) -> Iterator[None]:
    """Let no exception out, an interrupt neither, while the child still works."""
    try:
        yield
    except BaseException:
        child.end(0)
        raise


def _end_all(idle: list[Child]) -> None:
    for child in idle:
        child.end()


def _seconds(
    duration: Duration, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> float | None:
    found = duration(*args, **kwargs) if callable(duration) else duration
    if found is None:
        return None
    seconds = found.total_seconds() if isinstance(found, timedelta) else float(found)
    if not seconds > 0:
        message = f"duration must be more than 0 seconds, found {seconds:g}"
        raise ValueError(message)
    return seconds


_cuda_start: list[str] = []  # where CUDA was started, if it was after the first task
_watching: list[bool] = []
_DRIVER = "libcuda.so.1"
_NOT_STARTED = 3  # CUDA_ERROR_NOT_INITIALIZED
_ASKING = (
    "a call of the driver, such as torch.cuda.is_available(), which asks NVML instead "
    "where PYTORCH_NVML_BASED_CUDA_CHECK=1 is set"
)


def watch_cuda() -> None:
    """Have the line noted that starts CUDA, if it has not been started yet."""
    if not _watching and not _internals.cuda_started():
        _watching.append(True)
        _internals.on_cuda_start(_note_cuda_start)


def _note_cuda_start() -> None:
    """Note the line that started CUDA: the last one that is not torch's or ours."""
    own = str(Path(__file__).parent), str(Path(torch.__file__).parent)
    frames = traceback.extract_stack()
    _cuda_start[:] = [
        f"{frame.filename}:{frame.lineno}: {frame.line}"
        for frame in frames
        if not frame.filename.startswith(own)
    ][-1:]


def _refuse_cuda(name: str) -> None:
    if _internals.cuda_started():
        raise CudaInParent(name, _cuda_start[0] if _cuda_start else "")
    # Counting the devices is enough to spoil the driver for every child.
    if _driver_started():
        raise CudaInParent(name, _ASKING)


def _driver_started() -> bool:
    """Whether the driver was started in this process; asking does not start it.

    Its open files do not tell: NVML opens the same ones, and does no harm.
    """
    try:
        driver = ctypes.CDLL(_DRIVER, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:  # nothing has loaded it
        return False
    return int(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int()))) != _NOT_STARTED
