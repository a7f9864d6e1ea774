"""Mutants of the chapter PRC: jobs that run elsewhere, hang, or tell it wrongly."""

from __future__ import annotations

import functools
import inspect
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.utils import _pytree as pytree

import aoti_ref
from aoti_ref import _internals
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Job = Callable[..., Any]
    Wrap = Callable[[Job, tuple[Any, ...], dict[str, Any]], Any]


def around_calls(wrap: Wrap) -> Any:
    """Make workers as the reference does, then let `wrap` make each of their calls."""

    def worker(function: Job, **options: Any) -> Job:
        job = reference.worker(function, **options)
        return lambda *args, **kwargs: wrap(job, args, kwargs)

    return worker


def in_the_child(wrap: Wrap) -> Any:
    """Make workers as the reference does, of functions that `wrap` calls there."""

    def worker(function: Job, **options: Any) -> Job:
        if inspect.isgeneratorfunction(function):
            return reference.worker(function, **options)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return wrap(function, args, kwargs)

        return reference.worker(wrapped, **options)

    return worker


# PRC-01: it runs here; it shares the memory of arguments; it forgets the grad mode.
def _here(function: Job, **_options: Any) -> Job:
    return function


def _shares(job: Job, args: Any, kwargs: Any) -> Any:
    for tensor in pytree.tree_leaves(args):
        tensor.share_memory_()
    with patch("aoti_ref._wire._own", lambda storage: storage):
        return job(*args, **kwargs)


def _with_grad(job: Job, args: Any, kwargs: Any) -> Any:
    with torch.enable_grad():
        return job(*args, **kwargs)


PRC_01_here = mutant("PRC-01", worker=_here)
PRC_01_shares = mutant("PRC-01", worker=around_calls(_shares))
PRC_01_grad = mutant("PRC-01", worker=in_the_child(_with_grad))


# PRC-02: it keeps the words of exceptions, or their type, and nothing else.
def _words_only(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except Exception as error:
        raise RuntimeError(str(error)) from error


def _no_traceback(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except Exception as error:
        raise error from None


def _no_words(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except aoti_ref.TaskFailed as error:
        raise Refused("the worker failed") from error


PRC_02_type = mutant("PRC-02", worker=around_calls(_words_only))
PRC_02_traceback = mutant("PRC-02", worker=around_calls(_no_traceback))
PRC_02_words = mutant("PRC-02", worker=around_calls(_no_words))


# PRC-03: a death is an empty answer, or one like the other.
def _swallows(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except aoti_ref.WorkerDied:
        return None


def _aborted(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except aoti_ref.WorkerDied as error:
        raise Refused("GPU task aborted") from error


PRC_03_swallows = mutant("PRC-03", worker=around_calls(_swallows))
PRC_03_nameless = mutant("PRC-03", worker=around_calls(_aborted))


# PRC-04: it forgets the duration, tells and does not kill, or counts by the item.
def _forgets(function: Job, *, duration_s: float | None = None, **options: Any) -> Job:
    del duration_s
    return reference.worker(function, **options)


def _tells_only(
    function: Job, *, duration_s: float | None = None, **options: Any
) -> Job:
    job = reference.worker(function, **options)

    def call(*args: Any, **kwargs: Any) -> Any:
        future = ThreadPoolExecutor(1).submit(job, *args, **kwargs)
        try:
            return future.result(duration_s)
        except TimeoutError as error:
            raise Refused("it takes too long") from error

    return call


def _by_the_item(
    function: Job, *, duration_s: float | None = None, **options: Any
) -> Job:
    if not inspect.isgeneratorfunction(function):
        return reference.worker(function, duration_s=duration_s, **options)
    return reference.worker(function, **options)


PRC_04_forgets = mutant("PRC-04", worker=_forgets)
PRC_04_tells = mutant("PRC-04", worker=_tells_only)
PRC_04_item = mutant("PRC-04", worker=_by_the_item)


# PRC-05: items are collected first; the exception at the end is lost.
def _collects(job: Job, args: Any, kwargs: Any) -> Any:
    result = job(*args, **kwargs)
    return iter(list(result)) if inspect.isgenerator(result) else result


def _ends_early(job: Job, args: Any, kwargs: Any) -> Any:
    def items(stream: Any) -> Iterator[Any]:
        try:
            yield from stream
        except Exception:  # noqa: BLE001  # that is what is wrong with it
            return

    result = job(*args, **kwargs)
    return items(result) if inspect.isgenerator(result) else result


PRC_05_collects = mutant("PRC-05", worker=around_calls(_collects))
PRC_05_loses = mutant("PRC-05", worker=around_calls(_ends_early))

_forgotten: list[Any] = []


# PRC-06: closing ends what is here only; or kills, and nobody tidies up.
def _keeps_open(job: Job, args: Any, kwargs: Any) -> Any:
    def items(stream: Any) -> Iterator[Any]:
        _forgotten.append(stream)
        for item in stream:  # noqa: UP028  # `yield from` would close it
            yield item

    result = job(*args, **kwargs)
    return items(result) if inspect.isgenerator(result) else result


class _Killing:
    """A stream that kills its child when it is closed or dropped."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self.stream)

    def close(self) -> None:
        with patch("aoti_ref._child.Child.ask", _raises):
            self.stream.close()

    __del__ = close


def _raises(*_args: Any) -> None:
    raise GeneratorExit


def _kills(job: Job, args: Any, kwargs: Any) -> Any:
    result = job(*args, **kwargs)
    return _Killing(result) if inspect.isgenerator(result) else result


PRC_06_open = mutant("PRC-06", worker=around_calls(_keeps_open))
PRC_06_kills = mutant("PRC-06", worker=around_calls(_kills))

_last: list[Any] = []


# PRC-12: it returns what was last returned; a death takes the siblings with it.
def _latest(job: Job, args: Any, kwargs: Any) -> Any:
    result = job(*args, **kwargs)
    _last[:] = [result]
    time.sleep(0.01)
    return _last[0]


_children: set[Any] = set()


def _kills_siblings(job: Job, args: Any, kwargs: Any) -> Any:
    from aoti_ref._child import Child

    made = Child.__init__

    def noting(self: Any, *given: Any) -> None:
        made(self, *given)
        _children.add(self)

    with patch.object(Child, "__init__", noting):
        try:
            result = job(*args, **kwargs)
            return _primed(result) if inspect.isgenerator(result) else result
        except aoti_ref.WorkerDied:
            for child in _children:
                os.kill(child.pid, 9) if not child.dead() else None
            raise


def _primed(stream: Any) -> Any:
    """Start a stream at once, while children are noted."""
    first = next(stream)

    def items() -> Iterator[Any]:
        yield first
        yield from stream

    return items()


PRC_12_latest = mutant("PRC-12", worker=around_calls(_latest))
PRC_12_siblings = mutant("PRC-12", worker=around_calls(_kills_siblings))


# PRC-13: it does not look.
def _blind(job: Job, args: Any, kwargs: Any) -> Any:
    with patch.object(_internals, "cuda_started", lambda: False):
        return job(*args, **kwargs)


def _wordless(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except aoti_ref.CudaInParent as error:
        raise Refused("this cannot be done now") from error


PRC_13_blind = mutant("PRC-13", worker=around_calls(_blind))
PRC_13_words = mutant("PRC-13", worker=around_calls(_wordless))


# PRC-15: the thread that forked does the work.
class _SameThread:
    def __init__(self, target: Job, args: tuple[Any, ...], **_options: Any) -> None:
        self.start = functools.partial(target, *args)


def _main_thread(job: Job, args: Any, kwargs: Any) -> Any:
    with patch("threading.Thread", _SameThread):
        return job(*args, **kwargs)


PRC_15 = mutant("PRC-15", worker=around_calls(_main_thread))
