"""How fast a device stays: a large GPU may run faster for a moment than for a second.

A burst of matrix products runs at the clock that an idle GPU may have. If they last,
they draw what the board may draw at most, and the clock falls until they draw no more.
A model's call is long enough for that: no code reaches a floor that bursts tell.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SECONDS = 2.0
_AT_ONCE_MS = 50.0  # what is launched before anybody looks


class Held(NamedTuple):
    """What a function came to in the second half of its time, medians.

    Args:
        ms: A call's time.
        watts: What the GPU drew, as its driver tells it: None on a CPU, or where
            nobody can ask it.
        mhz: The clock of its multiprocessors, likewise.
    """

    ms: float
    watts: float | None
    mhz: float | None


def held(function: Callable[[], Any], device: str) -> Held:
    """Call `function` for two seconds without a pause; once or more on a CPU."""
    once = _milliseconds(function, 1, device)
    calls = max(int(_AT_ONCE_MS / max(once, 1e-3)), 1)
    found: list[Held] = []
    end = time.monotonic() + (_SECONDS if device != "cpu" else 0.0)
    while not found or time.monotonic() < end:
        ms = _milliseconds(function, calls, device)
        found.append(Held(ms, _watts(device), _mhz(device)))
    late = found[len(found) // 2 :]
    return Held(
        statistics.median(each.ms for each in late),
        _middle(each.watts for each in late),
        _middle(each.mhz for each in late),
    )


def _milliseconds(function: Callable[[], Any], calls: int, device: str) -> float:
    """Time some calls in a row, a call's share; on a GPU the next may begin at once."""
    if device == "cpu":
        started = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - started) * 1e3 / calls
    event: Any = torch.cuda.Event
    start, end = (event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        function()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / calls


def _watts(device: str) -> float | None:
    return _asked(lambda: torch.cuda.power_draw() / 1e3, device)


def _mhz(device: str) -> float | None:
    return _asked(lambda: float(torch.cuda.clock_rate()), device)


def _asked(question: Callable[[], float], device: str) -> float | None:
    """Ask the driver; torch wants a package for that, which may not be there."""
    if device == "cpu":
        return None
    try:
        return question()
    except (ImportError, RuntimeError):
        return None


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
