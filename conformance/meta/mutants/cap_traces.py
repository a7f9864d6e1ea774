"""Mutants of the chapter CAP: captures that leave something behind, or end too much."""

from __future__ import annotations

import functools
import random
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch
import tqdm

from aoti_ref import _capture
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn


def afterwards(do: Callable[[nn.Module], object]) -> Any:
    """Make a capture that is the reference's, and does one thing more at its end."""

    @contextmanager
    def capture(module: nn.Module, method: str = "forward") -> Iterator[Any]:
        with reference.capture(module, method) as record:
            yield record
        do(module)

    return capture


@contextmanager
def _runs_the_module(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    original = getattr(module, method)
    with reference.capture(module, method) as record:
        stop = getattr(module, method)

        @functools.wraps(original)
        def late(*args: Any, **kwargs: Any) -> Any:
            original(*args, **kwargs)
            return stop(*args, **kwargs)

        with patch.object(module, method, late):
            yield record


@contextmanager
def _lets_dynamo_trace(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    traced = patch.object(_capture, "interpreted", lambda _: nullcontext())
    with traced, reference.capture(module, method) as record:
        yield record


CAP_05_runs = mutant("CAP-05", capture=_runs_the_module)
CAP_05_traced = mutant("CAP-05", capture=_lets_dynamo_trace)


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


def _wraps_the_class(module: nn.Module) -> None:
    kind: Any = type(module)
    original = kind.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    kind.forward = forward


def _clears_the_instance(module: nn.Module) -> None:
    vars(module).pop("forward", None)


CAP_06_always = mutant("CAP-06", capture=_forgets_to_restore)
CAP_06_failure = mutant("CAP-06", capture=_restores_on_success_only)
CAP_06_class = mutant("CAP-06", capture=afterwards(_wraps_the_class))
CAP_06_instance = mutant("CAP-06", capture=afterwards(_clears_the_instance))


@contextmanager
def _hides_failures(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    try:
        with reference.capture(module, method) as record:
            yield record
    except RuntimeError as error:
        raise Refused(str(error)) from error


@contextmanager
def _swallows_interrupts(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        try:
            yield record
        except KeyboardInterrupt:
            return


CAP_07_failures = mutant("CAP-07", capture=_hides_failures)
CAP_07_interrupts = mutant("CAP-07", capture=_swallows_interrupts)


@contextmanager
def _before_hooks(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    hooks = dict(module._forward_pre_hooks)
    module._forward_pre_hooks.clear()
    try:
        with reference.capture(module, method) as record:
            yield record
    finally:
        module._forward_pre_hooks.update(hooks)


CAP_08_before = mutant("CAP-08", capture=_before_hooks)
CAP_08_removed = mutant(
    "CAP-08", capture=afterwards(lambda module: module._forward_pre_hooks.clear())
)


@contextmanager
def _above_accelerate(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with patch.object(_capture, "inner_method", lambda _module, name: name):
        capturing = reference.capture(module, method)
        with capturing as record:
            yield record


@contextmanager
def _leaves_weights(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    left = patch.object(_capture, "_close_hook", lambda _module: None)
    with left, reference.capture(module, method) as record:
        yield record


CAP_09_above = mutant("CAP-09", capture=_above_accelerate)
CAP_09_weights = mutant("CAP-09", capture=_leaves_weights)

CAP_10_torch = mutant("CAP-10", capture=afterwards(lambda _: torch.rand(1)))
CAP_10_python = mutant("CAP-10", capture=afterwards(lambda _: random.random()))  # noqa: S311
CAP_10_numpy = mutant("CAP-10", capture=afterwards(lambda _: np.random.rand()))  # noqa: NPY002


def _touches_weights(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data.mul_(1.01)


def _answers_nothing(module: nn.Module) -> None:
    module.forward = lambda x, **_: torch.zeros_like(x)


CAP_11_weights = mutant("CAP-11", capture=afterwards(_touches_weights))
CAP_11_answers = mutant("CAP-11", capture=afterwards(_answers_nothing))


def _leaves_a_bar(module: nn.Module) -> None:
    vars(module)["bar"] = tqdm.tqdm(range(2), disable=False)


@contextmanager
def _forgets_bars(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    forgotten = patch.object(_capture, "_open_bars", set)
    with forgotten, reference.capture(module, method) as record:
        yield record


CAP_12_opens = mutant("CAP-12", capture=afterwards(_leaves_a_bar))
CAP_12_forgets = mutant("CAP-12", capture=_forgets_bars)


class _StopIt(Exception):
    """Ends a block that had nothing to do with it."""


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


@contextmanager
def _ends_too_little(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    """Take every stop for its own."""
    with reference.capture(module, method) as record:
        try:
            yield record
        except BaseException as error:
            if type(error).__name__ != "Stop":
                raise


CAP_13_much = mutant("CAP-13", capture=_ends_too_much)
CAP_13_little = mutant("CAP-13", capture=_ends_too_little)


@contextmanager
def _detaches(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    record.args = tuple(
        arg.detach() if isinstance(arg, torch.Tensor) else arg for arg in record.args
    )


CAP_17_mode = mutant(
    "CAP-17", capture=afterwards(lambda _: torch.set_grad_enabled(False))
)
CAP_17_autocast = mutant(
    "CAP-17", capture=afterwards(lambda _: torch.set_autocast_enabled("cpu", False))
)
CAP_17_dtype = mutant(
    "CAP-17", capture=afterwards(lambda _: torch.set_default_dtype(torch.float64))
)
CAP_17_grad = mutant("CAP-17", capture=_detaches)


@contextmanager
def _leaves_what_was_set(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    left = patch.object(_capture, "_modes_kept", nullcontext)
    with left, reference.capture(module, method) as record:
        yield record


CAP_17_set = mutant("CAP-17", capture=_leaves_what_was_set)

_kept: list[Any] = []


@contextmanager
def _keeps_the_module(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    _kept.append(module)
    with reference.capture(module, method) as record:
        yield record


CAP_18 = mutant("CAP-18", capture=_keeps_the_module)


@contextmanager
def _copies_in_inference_mode(
    module: nn.Module, method: str = "forward"
) -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    record.args = tuple(
        arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in record.args
    )


CAP_19 = mutant("CAP-19", capture=_copies_in_inference_mode)
