"""What a worker's child does: take requests, run the function, answer, tidy up, leave.

The main thread listens and a second one works. OpenMP's threads do not survive a
fork, and the thread that forked would wait for them at its first parallel region;
a new thread gets a team of its own.
"""

from __future__ import annotations

import atexit
import contextvars
import inspect
import os
import queue
import random
import select
import signal
import sys
import threading
import time
import traceback
import weakref
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch

from aoti_ref import _internals, _wire

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

RESULT, ITEM, RAISED, UNSENT = "result", "item", "raised", "unsent"

_DEVICES = "cpu", "cuda"


class Modes(NamedTuple):
    """The modes of torch that belong to a thread: those of the caller."""

    grad: bool
    inference: bool
    autocast: tuple[tuple[str, torch.dtype], ...]
    device: torch.device | None

    @classmethod
    def here(cls) -> Modes:
        """Note the modes of this thread."""
        autocast = tuple(
            (device, torch.get_autocast_dtype(device))
            for device in _DEVICES
            if torch.is_autocast_enabled(device)
        )
        inference = torch.is_inference_mode_enabled()
        return cls(
            torch.is_grad_enabled(), inference, autocast, _internals.default_device()
        )

    def enter(self, stack: ExitStack) -> None:
        """Take them on until `stack` is closed."""
        stack.enter_context(torch.inference_mode(self.inference))
        stack.enter_context(torch.set_grad_enabled(self.grad))
        for device, dtype in self.autocast:
            stack.enter_context(torch.autocast(device, dtype))
        if self.device is not None:
            stack.enter_context(self.device)


class Call(NamedTuple):
    """One call: its packed arguments, its modes, and the seconds that it may take."""

    arguments: _wire.Packed
    modes: Modes
    limit_s: float | None


class Raised(NamedTuple):
    """An exception: itself, if it can be pickled, and its traceback in words.

    It is packed by itself: its class may be one that only the child knows.
    """

    error: _wire.Packed | None
    kind: str
    text: str


_inside = False


def inside() -> bool:
    """Whether this process is a worker's child."""
    return _inside


def serve(
    function: Callable[..., Any], first: Call, drawn: Any, requests: int, answers: int
) -> NoReturn:
    """Do the child's part: run the first call, then those that are asked for.

    Python draws other numbers in a fork, unless it is told where it was: `drawn`.
    """
    global _inside  # noqa: PLW0603  # a process is a child, or it is not
    status = 70
    try:
        _inside = True
        random.setstate(drawn)
        _stand_alone()
        server = _Server(function, answers)
        server.inbox.put((first,))
        context = contextvars.copy_context()
        work = threading.Thread(target=context.run, args=(server.work,), daemon=True)
        work.start()
        server.listen(requests)
        status = 0
    finally:
        _leave(status)


class _Server:
    def __init__(self, function: Callable[..., Any], answers: int) -> None:
        self.function = function
        self.streams = inspect.isgeneratorfunction(function)
        self.answers = answers
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.until: float | None = None

    def listen(self, requests: int) -> None:
        """Pass on requests until the parent closes its end, or is gone, or is late."""

        def wait(file: int, _event: int) -> None:
            watched = select.poll()
            watched.register(file, select.POLLIN)
            while not watched.poll(200):
                if self.until is not None and time.monotonic() > self.until:
                    raise EOFError

        with suppress(EOFError):
            while True:
                self.inbox.put(_wire.unpack(_wire.receive(requests, wait)))

    def work(self) -> None:
        """Answer calls, one after the other."""
        while True:
            (call,) = self.inbox.get()
            self.until = _after(call.limit_s)
            try:
                self._call(call)
            except SystemExit as leaving:
                code = leaving.code
                _leave(code if isinstance(code, int) else int(code is not None))
            except BaseException as error:  # noqa: BLE001  # the parent is to have it
                self._say(RAISED, _raised(error))
            self.until = None

    def _call(self, call: Call) -> None:
        try:
            args, kwargs = _wire.unpack(call.arguments)
        except Exception as error:  # noqa: BLE001  # unpickling runs foreign code
            self._say(UNSENT, ("argument", f"{type(error).__name__}: {error}"))
            return
        with ExitStack() as stack:
            call.modes.enter(stack)
            result = self.function(*args, **kwargs)
            if self.streams:
                self._stream(result)
            else:
                self._give(RESULT, result)

    def _stream(self, items: Generator[Any, Any, Any]) -> None:
        """Give the next item when it is asked for, and not before."""
        sent = None
        while True:
            try:
                item = items.send(sent)
            except StopIteration as stop:
                self._give(RESULT, stop.value)
                return
            going_on = self._give(ITEM, item)
            more, sent = self.inbox.get() if going_on else (False, None)
            if not more:
                items.close()
                if going_on:
                    self._say(RESULT, None)
                return

    def _give(self, kind: str, value: Any) -> bool:
        """Send a value, or say why it cannot be sent."""
        try:
            packed = sealed(kind, value)
        except Exception as error:  # noqa: BLE001  # pickling runs foreign code
            self._say(UNSENT, (kind, f"{type(error).__name__}: {error}"))
            return False
        self._send(packed)
        return True

    def _say(self, kind: str, value: Any) -> None:
        self._send(sealed(kind, value))

    def _send(self, packed: _wire.Packed) -> None:
        with suppress(BrokenPipeError):  # nobody wants it any more
            _wire.send(self.answers, packed, lambda _file, _event: None)


def sealed(kind: str, value: Any) -> _wire.Packed:
    """Pack an answer; what kind it is can be read where the answer itself cannot."""
    packed = _wire.pack(value)
    return packed._replace(text=kind.encode() + b"\n" + packed.text)


def opened(answer: _wire.Packed) -> tuple[str, _wire.Packed]:
    """Give the kind of an answer, and the answer, still packed."""
    kind, _, text = answer.text.partition(b"\n")
    return kind.decode(), answer._replace(text=text)


def _after(seconds: float | None) -> float | None:
    # The parent is the first to act, if it looks.
    return None if seconds is None else time.monotonic() + seconds + 1.0


def _raised(error: BaseException) -> Raised:
    trace = error.__traceback__
    for _ in range(2):  # this file's own frames
        trace = trace.tb_next if trace is not None else None
    text = "".join(traceback.format_exception(type(error), error, trace))
    kind = type(error).__qualname__
    try:
        packed = _wire.pack(error)
        back = _wire.unpack(packed)
    except Exception:  # noqa: BLE001  # pickling runs foreign code
        return Raised(None, kind, text)
    return Raised(packed if type(back) is type(error) else None, kind, text)


def _stand_alone() -> None:
    """Let go of what the parent has to do with its terminal, signals and exit."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # What the parent would do at its exit is the parent's. Python has no other way
    # to say so; multiprocessing does the same.
    atexit._clear()
    finalize: Any = weakref.finalize
    for inherited in list(finalize._registry):
        inherited.atexit = False
    atexit.register(finalize._exitfunc)


_leaving = threading.Lock()


def _leave(status: int) -> NoReturn:
    """End this process after its own clean-up, and without its parent's."""
    _leaving.acquire()  # for ever: another thread that wants to leave waits for this
    try:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, ValueError, OSError):
                stream.flush()
    finally:
        os._exit(status & 0xFF)
