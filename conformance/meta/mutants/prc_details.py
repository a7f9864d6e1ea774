"""Mutants of the chapter PRC: what is lost on the way to a job, and on the way back."""

from __future__ import annotations

import contextvars
import inspect
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.utils import _pytree as pytree

import aoti_ref
from aoti_ref import _serving
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants.prc import around_calls, in_the_child

if TYPE_CHECKING:
    from collections.abc import Callable

    Job = Callable[..., Any]


def around_streams(wrap: Callable[[Job, Any, Any], Any]) -> Any:
    """Make workers as the reference does, then let `wrap` make calls of generators."""

    def worker(function: Job, **options: Any) -> Job:
        job: Job = reference.worker(function, **options)
        if not inspect.isgeneratorfunction(function):
            return job
        return lambda *args, **kwargs: wrap(job, args, kwargs)

    return worker


def _in_a_context_of_its_own(function: Job, args: Any, kwargs: Any) -> Any:
    return contextvars.Context().run(function, *args, **kwargs)


PRC_01_context = mutant("PRC-01", worker=in_the_child(_in_a_context_of_its_own))


def _made_anew(job: Job, args: Any, kwargs: Any) -> Any:
    """Make exceptions again, of their arguments and attributes."""
    try:
        return job(*args, **kwargs)
    except aoti_ref.AotiError:
        raise
    except BaseException as error:  # noqa: BLE001  # it raises another like it
        made = type(error)(*error.args)
        vars(made).update(vars(error))
        raise made.with_traceback(error.__traceback__) from error.__cause__


def _without_notes(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except BaseException as error:
        vars(error).pop("__notes__", None)
        raise


def _that_did_not_come(job: Job, args: Any, kwargs: Any) -> Any:
    """Say of exceptions whose class is not here that something went wrong."""
    try:
        return job(*args, **kwargs)
    except aoti_ref.TaskFailed as error:
        if error.kind != "MadeThere":
            raise
        raise aoti_ref.NotSendable(error.task, "result", "ImportError") from None


PRC_02_anew = mutant("PRC-02", worker=around_calls(_made_anew))
PRC_02_notes = mutant("PRC-02", worker=around_calls(_without_notes))
PRC_02_unknown = mutant("PRC-02", worker=around_calls(_that_did_not_come))


def _nothing_for_zero(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except aoti_ref.WorkerDied as error:
        if error.how.endswith("code 0"):
            return None
        raise


def _until_it_dies(job: Job, args: Any, kwargs: Any) -> Any:
    """Take a death for the end of the items."""
    try:
        yield from job(*args, **kwargs)
    except aoti_ref.WorkerDied:
        return


PRC_03_zero = mutant("PRC-03", worker=around_calls(_nothing_for_zero))
PRC_03_amid = mutant("PRC-03", worker=around_streams(_until_it_dies))


def _dense(job: Job, args: Any, kwargs: Any) -> Any:
    """Give tensors that repeat elements densely."""

    def dense(x: torch.Tensor) -> torch.Tensor:
        return x.contiguous() if 0 in x.stride() else x

    return pytree.tree_map_only(torch.Tensor, dense, job(*args, **kwargs))


PRC_07_expanded = mutant("PRC-07", worker=around_calls(_dense))


def _in_no_words(job: Job, args: Any, kwargs: Any) -> Any:
    """Lose the reason of what pickle does not refuse itself."""
    try:
        return job(*args, **kwargs)
    except aoti_ref.NotSendable as error:
        if error.reason.startswith("ValueError"):
            reason = "it cannot be pickled"
            raise aoti_ref.NotSendable(error.task, error.what, reason) from None
        raise


def _items_as_results(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        yield from job(*args, **kwargs)
    except aoti_ref.NotSendable as error:
        raise aoti_ref.NotSendable(error.task, "result", error.reason) from None


PRC_08_words = mutant("PRC-08", worker=around_calls(_in_no_words))
PRC_08_items = mutant("PRC-08", worker=around_streams(_items_as_results))


def _reuses_within(function: Job, **options: Any) -> Job:
    """Fork within a job where a child is to be reused."""
    job: Job = reference.worker(function, **options)

    def call(*args: Any, **kwargs: Any) -> Any:
        if options.get("reuse") and _serving.inside():
            with patch.object(_serving, "_inside", False):
                return job(*args, **kwargs)
        return job(*args, **kwargs)

    return job if inspect.isgeneratorfunction(function) else call


_working = contextvars.ContextVar("_working", default=False)


def _forks_from_threads(function: Job, **options: Any) -> Job:
    """Know by its context that this is a job: threads have one of their own."""
    if inspect.isgeneratorfunction(function):
        return reference.worker(function, **options)

    def marked(*args: Any, **kwargs: Any) -> Any:
        _working.set(True)
        return function(*args, **kwargs)

    job: Job = reference.worker(marked, **options)

    def call(*args: Any, **kwargs: Any) -> Any:
        if _serving.inside() and not _working.get():
            with patch.object(_serving, "_inside", False):
                return job(*args, **kwargs)
        return job(*args, **kwargs)

    return call


PRC_09_reuse = mutant("PRC-09", worker=_reuses_within)
PRC_09_threads = mutant("PRC-09", worker=_forks_from_threads)
