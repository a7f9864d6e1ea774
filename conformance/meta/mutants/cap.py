"""Mutants of the chapter CAP: records that are not the call that was made."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.utils import _pytree as pytree

import aoti_ref
from aoti_ref import _capture
from aoti_ref._call import Call
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn


def capturing(
    *,
    stop: type[BaseException] = aoti_ref.AotiError,
    must_call: bool = True,
    keeps: Callable[[Any], Any] = lambda leaf: leaf,
) -> Any:
    """Make a capture that raises `stop` and records what `keeps` leaves."""

    @contextmanager
    def capture(module: nn.Module, method: str = "forward") -> Iterator[Call]:
        record = Call()
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
    record = Call()

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


@contextmanager
def _drops_keywords(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    record.kwargs = {
        key: value for key, value in record.kwargs.items() if key != "extra"
    }


@contextmanager
def _copies_twice(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    record.kwargs = pytree.tree_map_only(torch.Tensor, torch.clone, record.kwargs)


@contextmanager
def _keeps_tensors_only(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    record.args = tuple(arg for arg in record.args if isinstance(arg, torch.Tensor))


CAP_04_drops = mutant("CAP-04", capture=_drops_keywords)
CAP_04_tensors = mutant("CAP-04", capture=_keeps_tensors_only)
CAP_04_twice = mutant("CAP-04", capture=_copies_twice)
CAP_04_keywords = mutant("CAP-04", capture=_flattens)
CAP_04_strides = mutant("CAP-04", capture=_contiguous)


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


@contextmanager
def _without_results(module: nn.Module) -> Iterator[list[Any]]:
    original = module.forward

    def silent(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)

    silenced = patch.object(module, "forward", silent)
    with silenced, reference.capture_calls(module) as records:
        yield records


@contextmanager
def _by_reference(module: nn.Module) -> Iterator[list[Any]]:
    references = patch.object(_capture, "snapshot", Call)
    with references, reference.capture_calls(module) as records:
        yield records


CAP_14_references = mutant("CAP-14", capture_calls=_by_reference)
CAP_14_results = mutant("CAP-14", capture_calls=_without_results)
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


@contextmanager
def _looks_late(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    if hasattr(module, method):
        with reference.capture(module, method) as record:
            yield record
        return
    yield Call()
    raise Refused(f"{type(module).__name__}.{method} was never called")


CAP_16_forward = mutant("CAP-16", capture=_forward_only)
CAP_16_late = mutant("CAP-16", capture=_looks_late)
