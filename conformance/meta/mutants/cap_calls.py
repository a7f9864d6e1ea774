"""Mutants of the chapter CAP: captures of every call, and what records lose."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.utils import _pytree as pytree

from aoti_ref._call import snapshot
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn


def _built_in(value: Any) -> Any:
    """Build containers anew, of Python's own classes."""
    if isinstance(value, dict):
        return {key: _built_in(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        return kind(map(_built_in, value))
    return value


@contextmanager
def _forgets_classes(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    record.kwargs = _built_in(dict(record.kwargs))


CAP_04_classes = mutant("CAP-04", capture=_forgets_classes)


@contextmanager
def _puts_forward_back(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    """Leave any other method with what listens on it, unless all went well."""
    listening = None
    try:
        with reference.capture(module, method) as record:
            listening = getattr(module, method)
            yield record
    except BaseException:
        if method != "forward":
            setattr(module, method, listening)
        raise


@contextmanager
def _seeds_on_success(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    """Put torch's random state back where the block has called."""
    moved = None
    try:
        with reference.capture(module, method) as record:
            try:
                yield record
            finally:
                moved = torch.get_rng_state()
    except BaseException:
        if moved is not None:
            torch.set_rng_state(moved)
        raise


CAP_06_method = mutant("CAP-06", capture=_puts_forward_back)
CAP_10_success = mutant("CAP-10", capture=_seeds_on_success)


@contextmanager
def _has_what_it_wants(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    """Take no interest in what the block raises once there is a record."""
    with reference.capture(module, method) as record:
        try:
            yield record
        except BaseException as error:
            if type(error).__name__ != "Stop" and not record.args:
                raise


CAP_07_recorded = mutant("CAP-07", capture=_has_what_it_wants)


@contextmanager
def _without_finally(module: nn.Module) -> Iterator[list[Any]]:
    records: list[Any] = []
    original = module.forward

    @functools.wraps(original)
    def record(*args: Any, **kwargs: Any) -> Any:
        records.append(snapshot(args, kwargs))
        return original(*args, **kwargs)

    module.forward = record
    yield records
    del module.forward
    if not records:
        raise Refused(f"{type(module).__name__}.forward was never called")


@contextmanager
def _by_a_hook(module: nn.Module) -> Iterator[list[Any]]:
    """Record by a hook that comes before all others."""
    records: list[Any] = []

    def note(_module: nn.Module, args: Any, kwargs: Any) -> None:
        records.append(snapshot(args, kwargs))

    handle = module.register_forward_pre_hook(note, prepend=True, with_kwargs=True)
    try:
        yield records
    finally:
        handle.remove()
    if not records:
        raise Refused(f"{type(module).__name__}.forward was never called")


@contextmanager
def _hides_the_signature(module: nn.Module) -> Iterator[list[Any]]:
    with reference.capture_calls(module) as records:
        recording = module.forward

        def bare(*args: Any, **kwargs: Any) -> Any:
            return recording(*args, **kwargs)

        with patch.object(module, "forward", bare):
            yield records


@contextmanager
def _goes_on(module: nn.Module) -> Iterator[list[Any]]:
    """Record calls that fail, and end the block well."""
    with reference.capture_calls(module) as records:
        try:
            yield records
        except TypeError:
            return


@contextmanager
def _invents(module: nn.Module) -> Iterator[list[Any]]:
    """Give a record of a call without arguments where there was none."""
    records: list[Any] = []
    try:
        with reference.capture_calls(module) as records:
            yield records
    except Refused:
        records.append(snapshot((), {}))


CAP_14_invents = mutant("CAP-14", capture_calls=_invents)
CAP_14_finally = mutant("CAP-14", capture_calls=_without_finally)
CAP_14_hooks = mutant("CAP-14", capture_calls=_by_a_hook)
CAP_14_signature = mutant("CAP-14", capture_calls=_hides_the_signature)
CAP_14_failures = mutant("CAP-14", capture_calls=_goes_on)


def _copying(copy: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Record as the reference does, and copy the tensors of records once more."""

    @contextmanager
    def capture_calls(module: nn.Module) -> Iterator[list[Any]]:
        with reference.capture_calls(module) as records:
            yield records
        for record in records:
            call = record.args, dict(record.kwargs)
            made = pytree.tree_map_only(torch.Tensor, copy, call)
            record.args, record.kwargs = made

    return capture_calls


def _clone(x: torch.Tensor) -> torch.Tensor:
    return x.detach().clone().requires_grad_(x.requires_grad)


@torch.inference_mode()
def _of_inference(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


CAP_14_detaches = mutant("CAP-14", capture_calls=_copying(torch.Tensor.detach))
CAP_14_twice = mutant("CAP-14", capture_calls=_copying(_clone))
CAP_14_inference = mutant("CAP-14", capture_calls=_copying(_of_inference))
