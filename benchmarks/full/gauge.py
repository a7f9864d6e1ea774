"""Time calls in turns, and read what memory is gone."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GIB = 1 << 30
_WARM_UP = 3


def in_turns(
    functions: Mapping[str, Callable[[], Any]], device: str, *, rounds: int
) -> dict[str, list[float]]:
    """Time all functions, one call of each per round, in milliseconds.

    Every other round goes backwards, so that none always follows another. On a GPU
    the clock is that of its stream, where nothing else is in flight; on the CPU that
    of the thread, which does not see what else the machine does.
    """
    for function in functions.values():
        for _ in range(_WARM_UP):
            function()
    timed = _on_cpu if device == "cpu" else _on_gpu
    found: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions.items())
    for _ in range(rounds):
        for name, function in order:
            found[name].append(timed(function))
        order.reverse()
    return found


def _on_cpu(function: Callable[[], Any]) -> float:
    start = time.thread_time()
    function()
    return (time.thread_time() - start) * 1e3


def _on_gpu(function: Callable[[], Any]) -> float:
    event: Any = torch.cuda.Event
    start, end = (event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


def blocks_db(
    module: Any, eager: Any, call: Mapping[str, Any]
) -> dict[str, float] | None:
    """Compare the first block of each kind with eager's, on eager's arguments.

    Returns:
        The ratio of signal to noise of what they return, in dB, by their class; None
        where blocks are not named.
    """
    kinds = getattr(type(eager), "_repeated_blocks", None) or ()
    names = {
        type(part).__name__: name
        for name, part in reversed([*eager.named_modules()])
        if type(part).__name__ in kinds
    }
    found: dict[str, float] = {}

    def compare(kind: str, args: Any, kwargs: Any, wanted: Any) -> None:
        got = module.get_submodule(names[kind])(*args, **kwargs)
        pairs = zip(*(x if isinstance(x, tuple) else (x,) for x in (got, wanted)))  # noqa: B905
        decibels = [_decibels(ours, theirs) for ours, theirs in pairs]
        found[kind] = min(decibels)

    hooks = [
        eager.get_submodule(name).register_forward_hook(
            lambda _, args, kwargs, wanted, kind=kind: compare(
                kind, args, kwargs, wanted
            ),
            with_kwargs=True,
        )
        for kind, name in names.items()
    ]
    try:
        eager(**call)
    finally:
        for hook in hooks:
            hook.remove()
    return found or None


def _decibels(found: torch.Tensor, wanted: torch.Tensor) -> float:
    signal, noise = wanted.double().norm(), (found.double() - wanted.double()).norm()
    return float(20 * torch.log10(signal / noise.clamp_min(signal * 1e-10)))


def wait(device: str) -> None:
    """Wait until the device is done."""
    if device != "cpu":
        torch.cuda.synchronize()


def gone(device: str) -> int | None:
    """Give the bytes of the GPU that are in use, without what torch keeps for later."""
    if device == "cpu":
        return None
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    free, whole = torch.cuda.mem_get_info()
    return whole - free


def peak(device: str) -> int | None:
    """Give the most bytes that tensors took at one time since `reset_peak`."""
    return None if device == "cpu" else torch.cuda.max_memory_allocated()


def reset_peak(device: str) -> None:
    """Forget the peak."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
