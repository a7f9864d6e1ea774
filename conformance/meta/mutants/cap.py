"""Mutants of the chapter CAP: records that are not the call that was made."""

from __future__ import annotations

import functools
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _capture
from aoti_ref._call import Call
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextmanager
def _never_mind(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with suppress(Refused), reference.capture(module, method) as record:
        yield record


CAP_01 = mutant("CAP-01", capture=_never_mind)


class _Carried(Exception):
    """An ordinary exception that carries the stop to whoever catches it."""

    def __init__(self, stop: BaseException) -> None:
        super().__init__()
        self.stop = stop


@contextmanager
def _stops_softly(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    swallowed = False
    with reference.capture(module, method) as record:
        hard = getattr(module, method)

        @functools.wraps(hard)
        def soft(*args: Any, **kwargs: Any) -> Any:
            try:
                return hard(*args, **kwargs)
            except BaseException as stop:  # noqa: BLE001  # it is one
                raise _Carried(stop) from None

        with patch.object(module, method, soft):
            try:
                yield record
            except _Carried as carried:
                raise carried.stop from None
        swallowed = True
    if swallowed:
        record.args, record.kwargs = (), {}


@contextmanager
def _refers(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    references = patch.object(_capture, "snapshot", Call)
    with references, reference.capture(module, method) as record:
        yield record


CAP_02 = mutant("CAP-02", capture=_stops_softly)
CAP_03 = mutant("CAP-03", capture=_refers)


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
