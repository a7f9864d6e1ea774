"""Many calls from many threads on modules that share a graph, and how they ended."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import torch

from conformance.cache import PackageCache
from conformance.models import blocks

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from conformance.adapter import Adapter

_DISTINCT = 40  # calls of a thread that differ; their right answers are known before
_NEAR = 1e-3  # from eager: it counts whose answer it is


def threads(
    impl: Adapter,
    *,
    threads: int = 8,
    calls: int = 1000,
    blocks_: int = 4,
    cache: Path,
    deadline_s: float = 300,
) -> dict[str, Any]:
    """Call `blocks_` modules with one graph from `threads` threads.

    An answer is right if it is what the same call gave before, without company.

    Args:
        impl: The implementation.
        threads: How many call at once.
        calls: How many calls each makes, of the modules in turn.
        blocks_: How many modules the compiled model is applied to.
        cache: Where compiled models are kept.
        deadline_s: When threads that have not ended count as stuck.

    Returns:
        How many answers were right and wrong, errors by their words, threads that
        are stuck, and seconds.
    """
    torch.set_num_threads(1)
    eager = [blocks.seeded(blocks.Stack, seed) for seed in range(blocks_)]
    applied = [blocks.seeded(blocks.Stack, seed) for seed in range(blocks_)]
    compiled = PackageCache(cache, impl).compiled(
        blocks.seeded(blocks.Stack), blocks.call()
    )
    for module in applied:
        impl.apply(compiled, module)
    jobs = [_Job(number, applied, eager, calls) for number in range(threads)]
    began, before = time.monotonic(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for job in jobs:
            job.start()
        for job in jobs:
            job.join(max(began + deadline_s - time.monotonic(), 0))
    finally:
        sys.setswitchinterval(before)
    return {
        "calls": threads * calls,
        "right": sum(job.right for job in jobs),
        "wrong": sum(job.wrong for job in jobs),
        "errors": sorted({error for job in jobs for error in job.errors}),
        "stuck": sum(job.is_alive() for job in jobs),
        "seconds": round(time.monotonic() - began, 2),
    }


class _Job(threading.Thread):
    """A thread that calls, and counts what it gets."""

    def __init__(
        self, number: int, applied: list[nn.Module], eager: list[nn.Module], calls: int
    ) -> None:
        super().__init__(daemon=True)
        self.right = self.wrong = 0
        self.errors: set[str] = set()
        self._calls = calls
        self._work: list[tuple[nn.Module, Any, torch.Tensor]] = []
        with torch.no_grad():
            for each in range(_DISTINCT):
                which = (number + each) % len(applied)
                call = blocks.call(seed=number * _DISTINCT + each)
                alone = applied[which](**call.kwargs)[0]
                near = eager[which](**call.kwargs)[0]
                torch.testing.assert_close(alone, near, rtol=_NEAR, atol=_NEAR)
                self._work.append((applied[which], call, alone))

    def run(self) -> None:
        for each in range(self._calls):
            module, call, wanted = self._work[each % _DISTINCT]
            try:
                with torch.no_grad():
                    found = module(**call.kwargs)[0]
            except Exception as error:  # noqa: BLE001  # it is counted
                self.errors.add(f"{type(error).__name__}: {error}")
                continue
            if torch.equal(found, wanted):  # to the bit: nothing else has changed
                self.right += 1
            else:
                self.wrong += 1
