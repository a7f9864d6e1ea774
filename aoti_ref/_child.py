"""A forked child as its parent sees it, and the fork itself.

Two pipes: requests go down, answers come up. Only the parent holds its ends, so
that each side sees the other's death as the end of a pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from aoti_ref import _wire
from aoti_ref._files import sweep_dead
from aoti_ref._task_errors import NotSendable, WorkerDied, WorkerTimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRACE_S = 10.0  # to tidy up in, before a child that has nothing left to do is killed
_SLICE_S = 0.2  # a grandchild that holds the pipe open hides its parent's death
_EVENTS = {_wire.READ: select.POLLIN, _wire.WRITE: select.POLLOUT}

_forking = threading.RLock()
_ours: set[int] = set()  # the parent's ends of all pipes: no child may keep one


@contextlib.contextmanager
def unforked() -> Iterator[None]:
    """Have no child begin in the block, in which operators are called.

    torch makes what an operator needs when it is called for the first time. A child
    that begins meanwhile finds it half made, and waits forever for the other half.
    """
    with _forking:
        yield


class Child:
    """A child that serves requests.

    Args:
        name: What it is for, for messages.
        serve: Its part: called in the child with its ends of the two pipes.
    """

    def __init__(self, name: str, serve: Callable[[int, int], None]) -> None:
        self.name = name
        self.owner = os.getpid()
        self.limit_s: float | None = None
        self._deadline: float | None = None
        self._ended = False
        with _forking:
            theirs, self._requests = os.pipe()
            self._answers, mine = os.pipe()
            os.set_blocking(self._requests, False)
            _ours.update((self._requests, self._answers))
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(AttributeError, ValueError):
                    stream.flush()  # else both would write what is in the buffer
            with warnings.catch_warnings():
                # The child takes no lock that a thread of its parent may hold.
                warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
                try:
                    self.pid = os.fork()
                except OSError:
                    for file in (theirs, mine, self._requests, self._answers):
                        os.close(file)
                    _ours.difference_update((self._requests, self._answers))
                    raise
            if self.pid == 0:
                serve(theirs, mine)  # it does not return
                os._exit(70)
            os.close(theirs)
            os.close(mine)
        with contextlib.suppress(OSError):  # whichever of the two is first
            os.setpgid(self.pid, self.pid)

    def limit(self, seconds: float | None) -> None:
        """Give it so many seconds from now on for all that it does next."""
        self.limit_s = seconds
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def ask(self, *request: Any) -> None:
        """Send a request.

        Raises:
            NotSendable: The request cannot be pickled.
            WorkerDied, WorkerTimedOut: It ended, by itself or by its limit.
        """
        try:
            with unforked():
                packed = _wire.pack(request)
        except Exception as error:
            raise NotSendable(self.name, "argument", repr(error)) from error
        try:
            _wire.send(self._requests, packed, self._wait)
        except (BrokenPipeError, EOFError):
            raise self._death() from None

    def answer(self) -> _wire.Packed:
        """Wait for an answer.

        Raises:
            WorkerDied, WorkerTimedOut: It ended, by itself or by its limit.
        """
        try:
            return _wire.receive(self._answers, self._wait)
        except EOFError:
            raise self._death() from None

    def dead(self) -> bool:
        """Whether it has ended, its body still to be taken away."""
        try:
            kind = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, kind) is not None
        except ChildProcessError:  # somebody else waited for it
            return True

    def end(self, grace_s: float = GRACE_S) -> int | None:
        """Let it end, or make it end, with all processes that it started.

        Returns:
            Its status as `os.waitpid` gives it; None if it had to be killed, had
            ended before, or somebody else took the status.
        """
        if self._ended or self.owner != os.getpid():
            return None
        self._ended = True
        self._close(self._requests)
        until, pause_s = time.monotonic() + grace_s, 0.0005
        while not self.dead() and time.monotonic() < until:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.02)
        by_itself = self.dead()
        # Before it is waited for: a dead child keeps its number from being reused.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            by_itself, status = False, 0
        self._close(self._answers)
        sweep_dead()  # who was killed has removed nothing
        return status if by_itself else None

    def finish(self) -> None:
        """Let it end, now that it has answered.

        Raises:
            WorkerDied: A signal ended it all the same, perhaps one of its own.
        """
        status = self.end()
        if status is not None and os.WIFSIGNALED(status):
            raise WorkerDied(self.name, _told(status))

    def _wait(self, file: int, event: int) -> None:
        """Wait until a pipe is ready.

        Raises:
            WorkerTimedOut: The limit is over; it was killed.
            EOFError: It has died, and nothing is in the pipe.
        """
        watched = select.poll()
        watched.register(file, _EVENTS[event])
        dead = False
        while True:
            left_s = _SLICE_S
            if self._deadline is not None:
                left_s = min(left_s, self._deadline - time.monotonic())
                if left_s <= 0:
                    self.end(0)
                    raise WorkerTimedOut(self.name, self.limit_s or 0.0)
            if watched.poll(0 if dead else left_s * 1000):
                return
            if dead:
                raise EOFError
            dead = self.dead()

    def _death(self) -> Exception:
        """Take away a child that ended without being asked to, and say how it did."""
        status = self.end(1.0)
        late = self._deadline is not None and time.monotonic() >= self._deadline
        if late:
            return WorkerTimedOut(self.name, self.limit_s or 0.0)
        return WorkerDied(self.name, _told(status))

    def _close(self, file: int) -> None:
        with _forking:  # a child must not close what has the number by then
            _ours.discard(file)
            os.close(file)


def _told(status: int | None) -> str:
    if status is None:
        return "ended, and nobody knows how"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"was ended by {signal.Signals(number).name}"
        except ValueError:  # a real-time signal
            return f"was ended by signal {number}"
    return f"left with exit code {os.WEXITSTATUS(status)}"


def _drop() -> None:
    """In a child, whoever forked it: let go of the pipes to its siblings."""
    global _forking  # noqa: PLW0603  # the thread that holds it is not here
    _forking = threading.RLock()
    for file in _ours:
        with contextlib.suppress(OSError):
            os.close(file)
    _ours.clear()


os.register_at_fork(after_in_child=_drop)
