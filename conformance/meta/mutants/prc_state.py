"""Mutants of the chapter PRC: jobs that find another state than their caller's.

And children that serve a second time, and serve it worse.
"""

from __future__ import annotations

import functools
import inspect
import os
import random
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

import aoti_ref
from aoti_ref._worker import Task
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants.prc import around_calls, in_the_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.meta.mutants.prc import Job


def _after(prepare: Callable[[], object]) -> Any:
    """Make workers of which each job does something else first."""

    def prepared(job: Job, args: Any, kwargs: Any) -> Any:
        prepare()
        return job(*args, **kwargs)

    return in_the_child(prepared)


def _without_inference_mode(job: Job, args: Any, kwargs: Any) -> Any:
    grad = torch.is_grad_enabled()
    with torch.inference_mode(mode=False), torch.set_grad_enabled(grad):
        return job(*args, **kwargs)


# PRC-01: it draws numbers of its own, as data loaders do; it leaves the folder, as
# daemons do; it starts with defaults, or without an environment, as a new Python does.
PRC_01_seeds = mutant("PRC-01", worker=_after(torch.seed))
PRC_01_folder = mutant("PRC-01", worker=_after(lambda: os.chdir("/")))
PRC_01_environment = mutant("PRC-01", worker=_after(os.environ.clear))
PRC_01_dtype = mutant(
    "PRC-01", worker=_after(lambda: torch.set_default_dtype(torch.float32))
)
PRC_01_inference = mutant("PRC-01", worker=in_the_child(_without_inference_mode))


def _without_autocast(job: Job, args: Any, kwargs: Any) -> Any:
    with torch.autocast("cpu", enabled=False):
        return job(*args, **kwargs)


def _on_the_cpu(job: Job, args: Any, kwargs: Any) -> Any:
    with torch.device("cpu"):
        return job(*args, **kwargs)


PRC_01_python = mutant("PRC-01", worker=_after(random.seed))
PRC_01_numpy = mutant("PRC-01", worker=_after(np.random.seed))
PRC_01_autocast = mutant("PRC-01", worker=in_the_child(_without_autocast))
PRC_01_device = mutant("PRC-01", worker=in_the_child(_on_the_cpu))
PRC_01_keywords = mutant(
    "PRC-01", worker=around_calls(lambda job, args, _kwargs: job(*args))
)


def _streams_with_grad(function: Job, **options: Any) -> Job:
    if not inspect.isgeneratorfunction(function):
        return reference.worker(function, **options)

    @functools.wraps(function)
    def stream(*args: Any, **kwargs: Any) -> Any:
        with torch.enable_grad():
            yield from function(*args, **kwargs)

    return reference.worker(stream, **options)


PRC_01_streams = mutant("PRC-01", worker=_streams_with_grad)


# PRC-02: what is no Exception ends the child; what ends a generator is another error.
def _exceptions_only(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except (Exception, SystemExit):
        raise
    except BaseException:  # noqa: BLE001  # that is what is wrong with it
        os._exit(1)


def _as_generators_do(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except StopIteration as error:
        message = "generator raised StopIteration"
        raise RuntimeError(message) from error


PRC_02_interrupts = mutant("PRC-02", worker=in_the_child(_exceptions_only))
PRC_02_stops = mutant("PRC-02", worker=around_calls(_as_generators_do))


def _reused(wrap: Callable[[Job, float | None], Job]) -> Any:
    """Make workers as the reference does; `wrap` those that reuse their child."""

    def worker(
        function: Job, *, duration_s: float | None = None, reuse: bool = False
    ) -> Job:
        if not reuse:
            return reference.worker(function, duration_s=duration_s)
        return wrap(function, duration_s)

    return worker


def _of_the_first_caller(function: Job, duration_s: float | None) -> Job:
    job = reference.worker(function, duration_s=duration_s, reuse=True)
    modes: list[bool] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        modes.append(torch.is_grad_enabled())
        with torch.set_grad_enabled(modes[0]):
            return job(*args, **kwargs)

    return call


PRC_01_first = mutant("PRC-01", worker=_reused(_of_the_first_caller))


def _ended_by(kind: str) -> Callable[[Job, float | None], Job]:
    """Have a refusal of one kind be the last answer of a child that is reused."""

    def wrap(function: Job, duration_s: float | None) -> Job:
        job = reference.worker(function, duration_s=duration_s, reuse=True)
        last: list[Exception] = []

        def call(*args: Any, **kwargs: Any) -> Any:
            if last:
                raise last[0]
            try:
                return job(*args, **kwargs)
            except aoti_ref.AotiError as error:
                last.extend([error] * (type(error).__name__ == kind))
                raise

        return call

    return wrap


# PRC-03, PRC-08, PRC-10: a job that dies, is not sent, or is late is the last one.
PRC_03_last = mutant("PRC-03", worker=_reused(_ended_by("WorkerDied")))
PRC_08_last = mutant("PRC-08", worker=_reused(_ended_by("NotSendable")))


def _wordless(function: Job, duration_s: float | None) -> Job:
    """Say of what cannot be sent to a child that is there only that it did not work."""
    job = reference.worker(function, duration_s=duration_s, reuse=True)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return job(*args, **kwargs)
        except aoti_ref.NotSendable as error:
            raise aoti_ref.WorkerDied("job", "ended") from error

    return call


PRC_08_wordless = mutant("PRC-08", worker=_reused(_wordless))


# PRC-04: the duration is that of the child, or of its first job alone.
def _by_the_child(function: Job, duration_s: float | None) -> Job:
    job = reference.worker(function, duration_s=duration_s, reuse=True)
    began: list[float] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        began.append(time.monotonic())
        if duration_s is not None and began[-1] - began[0] > duration_s:
            raise Refused("the child has had its time")
        return job(*args, **kwargs)

    return call


def _for_the_first(function: Job, duration_s: float | None) -> Job:
    first = reference.worker(function, duration_s=duration_s)
    others, called = reference.worker(function, reuse=True), [False]

    def call(*args: Any, **kwargs: Any) -> Any:
        job, called[0] = others if called[0] else first, True
        return job(*args, **kwargs)

    return call


PRC_04_child = mutant("PRC-04", worker=_reused(_by_the_child))
PRC_04_first = mutant("PRC-04", worker=_reused(_for_the_first))


# PRC-07: parameters come back as tensors.
def _detached(job: Job, args: Any, kwargs: Any) -> Any:
    result = job(*args, **kwargs)
    return pytree.tree_map_only(nn.Parameter, lambda x: x.detach(), result)


PRC_07_detached = mutant("PRC-07", worker=around_calls(_detached))


# PRC-10: results lie in one place; tensors cannot be sent; what was left is given.
def _in_one_place(function: Job, duration_s: float | None) -> Job:
    job = reference.worker(function, duration_s=duration_s, reuse=True)
    room: dict[Any, torch.Tensor] = {}

    def placed(found: torch.Tensor) -> torch.Tensor:
        place = room.setdefault((found.dtype, found.shape), found)
        return place.copy_(found)

    return lambda *args, **kwargs: pytree.tree_map_only(
        torch.Tensor, placed, job(*args, **kwargs)
    )


def _numbers_only(function: Job, duration_s: float | None) -> Job:
    job = reference.worker(function, duration_s=duration_s, reuse=True)
    called: list[bool] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        called.append(True)
        if called[1:] and any(isinstance(x, torch.Tensor) for x in args):
            raise Refused("its argument cannot be sent")
        return job(*args, **kwargs)

    return call


def _unread(function: Job, duration_s: float | None) -> Job:
    job = reference.worker(function, duration_s=duration_s, reuse=True)
    left: list[Any] = []

    def items(stream: Any) -> Any:
        yield from [left.pop() for _ in left]
        for item in stream:
            left[:] = [item]
            yield item
        left.clear()

    def call(*args: Any, **kwargs: Any) -> Any:
        result = job(*args, **kwargs)
        return items(result) if inspect.isgenerator(result) else result

    return call


PRC_10_late = mutant("PRC-10", worker=_reused(_ended_by("WorkerTimedOut")))
PRC_10_unread = mutant("PRC-10", worker=_reused(_unread))
PRC_10_place = mutant("PRC-10", worker=_reused(_in_one_place))
PRC_10_numbers = mutant("PRC-10", worker=_reused(_numbers_only))


# PRC-12: two threads take the same idle child.
def _peeks(task: Task) -> Any:
    child = task._idle[-1] if task._idle else None
    time.sleep(0.01)
    return child


def _unlocked(function: Job, duration_s: float | None) -> Job:
    Task._warm = _peeks  # type: ignore[method-assign, assignment]
    return reference.worker(function, duration_s=duration_s, reuse=True)


PRC_12_reuse = mutant("PRC-12", worker=_reused(_unlocked))
