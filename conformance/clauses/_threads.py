"""What the clauses on threads share: threads that start together, and their judges."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from conformance import device, isolated
from conformance.models import blocks
from conformance.spec import blocked
from conformance.workbench import Attempt, attempt, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from conformance.adapter import Call

DEADLINE_S = 30

# Here it counts whose answer it is; how near it comes is a matter of chapter NUM.
NEAR = 1e-3


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Have Python change threads as often as it can: races show that else would not."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def together(jobs: Sequence[Callable[[], Any]]) -> list[Attempt]:
    """Run every job in a thread of its own, from one moment on.

    Returns:
        What each of them returned or raised.
    """
    __tracebackhide__ = True
    ready = threading.Barrier(len(jobs))
    found: dict[int, Attempt] = {}

    def work(number: int) -> None:
        ready.wait()
        with torch.no_grad():
            found[number] = attempt(jobs[number])

    threads = [
        threading.Thread(target=work, args=(number,), daemon=True)
        for number in range(len(jobs))
    ]
    deadline = time.monotonic() + DEADLINE_S
    with impatient():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
    late = sum(thread.is_alive() for thread in threads)
    assert not late, f"{late} of {len(jobs)} threads are stuck after {DEADLINE_S} s"
    return [found[number] for number in range(len(jobs))]


def values(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run jobs `together`, and give what they return; what one raises is raised."""
    __tracebackhide__ = True
    ended = together(jobs)
    for each in ended:
        if each.error is not None:
            raise each.error
    return [each.value for each in ended]


@dataclass(frozen=True)
class Caller:
    """Calls modules in turn, with arguments of his own each time.

    Args:
        modules: Pairs of what is called and the eager twin that knows better.
        calls: The arguments.
    """

    modules: Sequence[tuple[nn.Module, nn.Module]]
    calls: Sequence[Call]

    def wanted(self) -> list[Any]:
        """Ask the eager twins."""
        with torch.no_grad():
            return [
                _first(self._of(n)[1](*call.args, **call.kwargs))
                for n, call in enumerate(self.calls)
            ]

    def __call__(self) -> list[Any]:
        """Call, and keep every answer."""
        return [self._one(n, call) for n, call in enumerate(self.calls)]

    def attempts(self) -> list[Attempt]:
        """Call, and keep every answer and every error."""
        return [
            attempt(partial(self._one, n, call)) for n, call in enumerate(self.calls)
        ]

    def _one(self, number: int, call: Call) -> torch.Tensor:
        return _first(self._of(number)[0](*call.args, **call.kwargs))

    def _of(self, number: int) -> tuple[nn.Module, nn.Module]:
        return self.modules[number % len(self.modules)]


def _first(result: Any) -> torch.Tensor:
    """Give the tensor of a Stack's result, or of a Tied's."""
    found: torch.Tensor = result[0] if isinstance(result, tuple) else result
    return found


def callers(
    modules: Sequence[tuple[nn.Module, nn.Module]],
    make: Callable[[int], Call],
    *,
    threads: int = 8,
    calls: int = 25,
) -> list[Caller]:
    """Make callers, each with calls that nobody else makes; each begins elsewhere."""
    turned = [[*modules[n % len(modules) :], *modules] for n in range(threads)]
    return [
        Caller(
            turned[number][: len(modules)],
            [make(number * calls + k) for k in range(calls)],
        )
        for number in range(threads)
    ]


def assert_near(found: Any, wanted: Any) -> None:
    """Assert that tensors, in lists or not, are the wanted ones and no others."""
    __tracebackhide__ = True
    torch.testing.assert_close(found, wanted, rtol=NEAR, atol=NEAR)


def assert_answered(callers: Sequence[Caller]) -> None:
    """Run all callers together; assert that each gets the answers to his own calls."""
    __tracebackhide__ = True
    wanted = [caller.wanted() for caller in callers]
    blocks.entered.clear()
    found = values(callers)
    assert blocks.entered == [], "eager code ran"
    for answers, right in zip(found, wanted, strict=True):
        assert_near(answers, right)


def assert_among(
    caller_jobs: Sequence[Caller],
    meanwhile: Callable[[], object],
    wanted: Sequence[torch.Tensor],
) -> None:
    """Assert that calls are answered by one of `wanted`, or refused, while others act.

    Args:
        caller_jobs: Who calls; every call has the same arguments.
        meanwhile: What another thread does until all of them have ended.
        wanted: The answers that are right.
    """
    __tracebackhide__ = True
    over, stopped = threading.Event(), threading.Event()
    busy = [0]

    def act() -> None:
        try:
            while not over.is_set():
                meanwhile()
                busy[0] += 1
        finally:
            stopped.set()

    def call(caller: Caller) -> list[Attempt]:
        try:
            found = caller.attempts()
            while busy[0] < 2 and not stopped.is_set():  # others are slow to begin
                found += caller.attempts()
            return found
        finally:
            left.release()
            if not left.count():
                over.set()

    left = _Countdown(len(caller_jobs))
    jobs = [partial(call, caller) for caller in caller_jobs]
    *ended, _ = values([*jobs, act])
    for each in (each for attempts in ended for each in attempts):
        assert_one_of(each, wanted)


class _Countdown:
    """Counts down from many threads at once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()

    def release(self) -> None:
        with self._lock:
            self._count -= 1

    def count(self) -> int:
        return self._count


def assert_one_of(each: Attempt, wanted: Sequence[torch.Tensor]) -> None:
    """Assert that a call was answered by one of `wanted`, or refused."""
    __tracebackhide__ = True
    if each.error is not None:
        if not is_refusal(each.error):
            raise each.error
        return
    right = any(_is_near(each.value, w) for w in wanted)
    assert right, f"an answer is none of the {len(wanted)} that are right"


def _is_near(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    same = found.shape == wanted.shape
    return same and torch.allclose(found, wanted, rtol=NEAR, atol=NEAR)


def forked(function: Callable[[], Any], *, times: int, deadline_s: float) -> list[Any]:
    """Call `function` in forked children, one after the other, until one has no answer.

    Returns:
        Their answers; the child without one raises, as what became of it.
    """
    if device.chosen() != "cpu":
        blocked("a child that is forked after CUDA was started cannot use it")
    found: list[Any] = []
    for _ in range(times):
        ending = isolated.run_forked(function, deadline_s=deadline_s)
        assert ending.kind == "answer", ending.text
        found.append(ending.answer)
    return found
