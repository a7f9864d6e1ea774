"""Record how a pipeline calls a module."""

from __future__ import annotations

import functools
import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn
from unittest.mock import patch

import torch

from aoti_ref._call import Call, snapshot
from aoti_ref._errors import NeverCalled
from aoti_ref._hooks import inner_method

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from torch import nn


@contextmanager
def capture(module: nn.Module, method: str = "forward") -> Iterator[Call]:
    """Record the first call made to `module` inside the block, without making it.

    The block is cut short where it would have entered `module`, so capturing the
    transformer of a pipeline costs a text-encoder pass and no denoising step.

    Args:
        module: The module to listen on. It is left as it was found, however the
            block ends, and so are the global random states, grad mode, autocast and
            the default dtype.
        method: The method to listen on.

    Yields:
        The call, filled when the block has ended. Its tensors are copies: what
        the pipeline does to its own afterwards cannot change them.

    Raises:
        NeverCalled: The block came to its end without calling `module`.
        HookedModule: Hooks hide the method from view.

    Anything else that the block raises passes through untouched.

    Example:
        >>> layer = torch.nn.Linear(4, 2)
        >>> with capture(layer) as call:
        ...     _ = layer(torch.zeros(3, 4))
        >>> call
        Call(float32[3, 4])
    """

    # A class per capture, so that a nested capture stops only its own block.
    # Not an Exception, because pipelines wrap steps in `except Exception`.
    class Stop(BaseException):
        pass

    call = Call()
    recorded = False
    inner = inner_method(module, method)

    @functools.wraps(getattr(module, inner))  # pipelines read its signature
    def stop(*args: object, **kwargs: object) -> NoReturn:
        nonlocal recorded
        if not recorded:
            first = snapshot(args, kwargs)
            call.args, call.kwargs = first.args, first.kwargs
            recorded = True
        raise Stop

    with (
        _world_kept(),
        _modes_kept(),
        interpreted(module),
        patch.object(module, inner, stop),
    ):
        try:
            yield call
        except Stop:
            pass
        finally:
            if recorded and inner != method:
                _close_hook(module)
    if not recorded:
        raise NeverCalled(type(module).__name__, method)


@contextmanager
def capture_calls(module: nn.Module, method: str = "forward") -> Iterator[list[Call]]:
    """Record every call made to `module` inside the block, and make each of them.

    Use it where calls differ from step to step: with and without guidance, a
    cache that fills, one transformer of two. It costs a whole run.

    Args:
        module: The module to listen on. It is left as it was found.
        method: The method to listen on.

    Yields:
        The calls so far, in order; their tensors are copies.

    Raises:
        NeverCalled: The block came to its end without calling `module`.
        HookedModule: Hooks hide the method from view.

    Example:
        >>> layer = torch.nn.Linear(4, 2)
        >>> with capture_calls(layer) as calls:
        ...     _ = layer(torch.zeros(3, 4)), layer(input=torch.zeros(1, 4))
        >>> calls
        [Call(float32[3, 4]), Call(input=float32[1, 4])]
    """
    calls: list[Call] = []
    inner = inner_method(module, method)
    original = getattr(module, inner)

    @functools.wraps(original)
    def record(*args: object, **kwargs: object) -> object:
        calls.append(snapshot(args, kwargs))
        return original(*args, **kwargs)

    with interpreted(module), patch.object(module, inner, record):
        yield calls
    if not calls:
        raise NeverCalled(type(module).__name__, method)


def interpreted(module: nn.Module) -> AbstractContextManager[object]:
    """Switch `module.compile()` off: dynamo would trace the recorder."""
    return patch.object(module, "_compiled_call_impl", None, create=True)


@contextmanager
def _world_kept() -> Iterator[None]:
    """Put back what a run that is cut short has moved: random states, bars."""
    numpy: Any = sys.modules.get("numpy")
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    states = torch.cuda.get_rng_state_all() if cuda else []
    cpu, python = torch.get_rng_state(), random.getstate()
    numbers = numpy.random.get_state() if numpy else None
    bars = _open_bars()
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        random.setstate(python)
        if numpy:
            numpy.random.set_state(numbers)
        if cuda:
            torch.cuda.set_rng_state_all(states)
        for bar in _open_bars() - bars:
            bar.close()


@contextmanager
def _modes_kept() -> Iterator[None]:
    """Put back modes that the block has set without a `with` of its own.

    However the block ends, as with the random states: a run that is cut short never
    comes to where it would have put them back itself, and one that ends without a call
    is an error. Inference mode is not among them, for it can only be left by what
    entered it.
    """
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    cached = torch.is_autocast_cache_enabled()
    casts = {
        device: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        for device in ("cpu", "cuda")  # each has its own, with a GPU or without
    }
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        torch.set_autocast_cache_enabled(cached)
        for device, (enabled, to) in casts.items():
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, to)


def _open_bars() -> set[Any]:
    std: Any = sys.modules.get("tqdm.std")
    return set(getattr(std.tqdm, "_instances", ())) if std else set()


def _close_hook(module: nn.Module) -> None:
    """End what accelerate's hook began: weights that it brought go back."""
    hook: Any = module._hf_hook
    hook.post_forward(module, ())
