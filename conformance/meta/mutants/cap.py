"""Mutants of the chapter CAP: captures that lose something, or leave it behind."""

from __future__ import annotations

import inspect
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
import tqdm

import aoti_ref
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn


class _StopIt(Exception):
    """An ordinary exception, which pipelines swallow."""


class _Record:
    def __init__(self) -> None:
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}


def capturing(
    *,
    stop: type[BaseException] = aoti_ref.AotiError,
    must_call: bool = True,
    keeps: Callable[[Any], Any] = lambda leaf: leaf,
) -> Any:
    """Make a capture that raises `stop` and records what `keeps` leaves."""

    @contextmanager
    def capture(module: nn.Module, method: str = "forward") -> Iterator[_Record]:
        record = _Record()
        original = getattr(module, method)

        def fake(*args: Any, **kwargs: Any) -> Any:
            record.args, record.kwargs = keeps(args), keeps(kwargs)
            raise stop(type(module).__name__)

        fake.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        with patch.object(module, method, fake):
            try:
                yield record
            except stop:
                return
        if must_call:
            raise Refused(f"{type(module).__name__} was never called")

    return capture


CAP_01 = mutant("CAP-01", capture=capturing(must_call=False))


class _Carried(Exception):
    """An ordinary exception that carries the call to whoever catches it."""


@contextmanager
def _records_on_arrival(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    record = _Record()

    def fake(*args: Any, **kwargs: Any) -> Any:
        raise _Carried(args, kwargs)

    with patch.object(module, method, fake):
        try:
            yield record
        except _Carried as carried:
            record.args, record.kwargs = carried.args


CAP_02 = mutant("CAP-02", capture=_records_on_arrival)
CAP_03 = mutant("CAP-03", capture=capturing())


@contextmanager
def _flattens(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    record.args = (*record.args, *record.kwargs.values())
    record.kwargs = {}


@contextmanager
def _contiguous(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    record.args = tuple(
        arg.contiguous() if isinstance(arg, torch.Tensor) else arg
        for arg in record.args
    )


CAP_04_keywords = mutant("CAP-04", capture=_flattens)
CAP_04_strides = mutant("CAP-04", capture=_contiguous)


@contextmanager
def _runs_the_module(module: nn.Module, _method: str = "forward") -> Iterator[Any]:
    calls = []

    def keep(_module: nn.Module, args: Any, kwargs: Any, _result: Any) -> None:
        calls.append((args, kwargs))

    handle = module.register_forward_hook(keep, with_kwargs=True)
    record = _Record()
    try:
        yield record
    finally:
        handle.remove()
    if not calls:
        raise Refused(f"{type(module).__name__} was never called")
    record.args, record.kwargs = calls[0]


CAP_05 = mutant("CAP-05", capture=_runs_the_module)


@contextmanager
def _forgets_to_restore(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    original = getattr(module, method)
    with reference.capture(module, method) as record:
        yield record
    setattr(module, method, original)


@contextmanager
def _restores_on_success_only(
    module: nn.Module, method: str = "forward"
) -> Iterator[Any]:
    original = getattr(module, method)
    try:
        with reference.capture(module, method) as record:
            yield record
    except BaseException:
        setattr(module, method, original)
        raise


CAP_06_always = mutant("CAP-06", capture=_forgets_to_restore)
CAP_06_failure = mutant("CAP-06", capture=_restores_on_success_only)


@contextmanager
def _hides_failures(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    try:
        with reference.capture(module, method) as record:
            yield record
    except RuntimeError as error:
        raise Refused(str(error)) from error


CAP_07 = mutant("CAP-07", capture=_hides_failures)


@contextmanager
def _before_hooks(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    hooks = dict(module._forward_pre_hooks)
    module._forward_pre_hooks.clear()
    try:
        with reference.capture(module, method) as record:
            yield record
    finally:
        module._forward_pre_hooks.update(hooks)


CAP_08 = mutant("CAP-08", capture=_before_hooks)


@contextmanager
def _above_accelerate(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with capturing(stop=_StopIt)(module, method) as record:
        yield record


CAP_09 = mutant("CAP-09", capture=_above_accelerate)


@contextmanager
def _draws(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    torch.rand(1)
    random.random()  # noqa: S311


CAP_10 = mutant("CAP-10", capture=_draws)


@contextmanager
def _touches_weights(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    for parameter in module.parameters():
        parameter.data.mul_(1.01)


CAP_11 = mutant("CAP-11", capture=_touches_weights)


@contextmanager
def _leaves_a_bar(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    module.__dict__["bar"] = tqdm.tqdm(range(2), disable=False)


CAP_12 = mutant("CAP-12", capture=_leaves_a_bar)


_captures: list[BaseException] = []


@contextmanager
def _ends_too_much(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    """End the outer block with the inner one: the stop is raised once more."""
    _captures.append(_StopIt())
    try:
        with reference.capture(module, method) as record:
            yield record
    finally:
        _captures.pop()
    if _captures:
        raise _captures[-1]


CAP_13 = mutant("CAP-13", capture=_ends_too_much)


@contextmanager
def _first_only(module: nn.Module) -> Iterator[list[Any]]:
    with reference.capture_calls(module) as records:
        yield records
    del records[1:]


@contextmanager
def _without_running(module: nn.Module) -> Iterator[list[Any]]:
    records: list[Any] = []
    with reference.capture(module) as record:
        yield records
    records.append(record)


CAP_14_first = mutant("CAP-14", capture_calls=_first_only)
CAP_14_stops = mutant("CAP-14", capture_calls=_without_running)


@contextmanager
def _hides_the_signature(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        stop = getattr(module, method)

        def bare(*args: Any, **kwargs: Any) -> Any:
            return stop(*args, **kwargs)

        with patch.object(module, method, bare):
            yield record


CAP_15 = mutant("CAP-15", capture=_hides_the_signature)


def _forward_only(module: nn.Module, _method: str = "forward") -> Any:
    return reference.capture(module)


CAP_16 = mutant("CAP-16", capture=_forward_only)


@contextmanager
def _leaks_a_mode(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    torch.set_grad_enabled(False)


@contextmanager
def _detaches(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    record.args = tuple(
        arg.detach() if isinstance(arg, torch.Tensor) else arg for arg in record.args
    )


CAP_17_mode = mutant("CAP-17", capture=_leaks_a_mode)
CAP_17_grad = mutant("CAP-17", capture=_detaches)

_kept: list[Any] = []


@contextmanager
def _keeps_the_module(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    _kept.append(module)
    with reference.capture(module, method) as record:
        yield record


CAP_18 = mutant("CAP-18", capture=_keeps_the_module)
