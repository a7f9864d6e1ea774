"""Mutants of the chapter PRC: what threads do to each other."""

from __future__ import annotations

import contextvars
import copy
import threading
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import shared_twin
from conformance.meta.mutants._make import mutant
from conformance.workbench import attempt

if TYPE_CHECKING:
    from collections.abc import Callable

_kept: list[Any] = []


def _wait() -> None:
    """Let other threads have their turn."""
    time.sleep(0.0005)


def _answered_by(choose: Callable[[Any, nn.Module], Any]) -> Any:
    """Apply so that a callable, made by `choose`, takes the calls."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, copy.deepcopy(module))  # refuse what it refuses
        module.forward = choose(compiled, module)

    return apply


def _anew(compiled: Any, module: nn.Module, *, copies: bool = False) -> Any:
    """Load the package as if it had never been loaded, for a twin of `module`."""
    fresh = type(compiled)(compiled.package.archive)
    fresh.package._digest += str(len(_kept))
    twin = copy.deepcopy(module) if copies else shared_twin(module)
    twin.__dict__.pop("forward", None)
    reference.apply(fresh, twin)
    _kept.append(twin)
    return twin.forward


def _by_thread(compiled: Any, module: nn.Module, *, copies: bool = False) -> Any:
    mine = threading.local()

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not hasattr(mine, "answer"):
            mine.answer = _anew(compiled, module, copies=copies)
        return mine.answer(*args, **kwargs)

    return forward


def _by_context(compiled: Any, module: nn.Module) -> Any:
    mine: contextvars.ContextVar[Any] = contextvars.ContextVar("mine")

    def forward(*args: Any, **kwargs: Any) -> Any:
        if mine.get(None) is None:
            mine.set(_anew(compiled, module))
        return mine.get()(*args, **kwargs)

    return forward


def _copies_by_thread(compiled: Any, module: nn.Module) -> Any:
    return _by_thread(compiled, module, copies=True)


PRC_20 = mutant("PRC-20", apply=_answered_by(_by_thread))
PRC_24 = mutant("PRC-24", apply=_answered_by(_by_context))
PRC_32 = mutant("PRC-32", apply=_answered_by(_copies_by_thread))


def _on(change: Callable[[Any, nn.Module], Any]) -> Any:
    """Apply as the reference does, then put `change` in front of what it put there."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, module)
        module.forward = change(module.forward, module)

    return apply


def _one_buffer(applied: Any, _module: nn.Module) -> Any:
    held: list[torch.Tensor] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        (result,) = applied(*args, **kwargs)
        if not held or held[0].shape != result.shape:
            held[:] = [result.clone()]
        return (held[0].copy_(result),)

    return forward


def _one_place_for_arguments(applied: Any, _module: nn.Module) -> Any:
    place: dict[str, Any] = {}

    def forward(*args: Any, **kwargs: Any) -> Any:
        place["call"] = args, kwargs
        _wait()
        args, kwargs = place["call"]
        return applied(*args, **kwargs)

    return forward


def _locks_up(applied: Any, _module: nn.Module) -> Any:
    lock = threading.Lock()

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not lock.acquire(blocking=False):
            time.sleep(3600)
        _wait()
        lock.release()
        return applied(*args, **kwargs)

    return forward


PRC_21_results = mutant("PRC-21", apply=_on(_one_buffer))
PRC_21_arguments = mutant("PRC-21", apply=_on(_one_place_for_arguments))
PRC_21_locks = mutant("PRC-21", apply=_on(_locks_up))

_last: dict[Any, Any] = {}


def _one_runner(applied: Any, module: nn.Module) -> Any:
    """Name the module whose weights are to be used, then run whatever is named."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        _last[type(module)] = applied
        _wait()
        return _last[type(module)](*args, **kwargs)

    return forward


PRC_22 = mutant("PRC-22", apply=_on(_one_runner))


def _one_graph(applied: Any, _module: nn.Module) -> Any:
    def forward(*args: Any, **kwargs: Any) -> Any:
        _last["call"] = args, kwargs, applied
        _wait()
        args, kwargs, chosen = _last["call"]
        return chosen(*args, **kwargs)

    return forward


PRC_23 = mutant("PRC-23", apply=_on(_one_graph))


def _checks_the_first_thread(applied: Any, _module: nn.Module) -> Any:
    checked: list[Any] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        if checked and checked[0] != threading.get_ident():
            return attempt(lambda: applied(*args, **kwargs)).value or checked[1]
        result = applied(*args, **kwargs)
        checked[:] = [threading.get_ident(), result]
        return result

    return forward


PRC_25 = mutant("PRC-25", apply=_on(_checks_the_first_thread))


def _binds_in_steps(compiled: Any, module: nn.Module) -> None:
    """Bind the present weights one by one, with a pause between two of a child."""
    reference.apply(compiled, module)
    applied: Any = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        twin = copy.deepcopy(module, {id(applied): None})
        twin.__dict__.pop("forward", None)
        for name in list(dict(twin.named_parameters())):
            if not name.startswith("blocks.1.out"):
                continue
            path, _, key = name.rpartition(".")
            now = module.get_parameter(name)
            setattr(twin.get_submodule(path), key, now)
            _wait()
        reference.apply(compiled, twin)
        return twin.forward(*args, **kwargs)

    module.forward = forward


PRC_27 = mutant("PRC-27", apply=_binds_in_steps)


def _blends(applied: Any, module: nn.Module) -> Any:
    """Read a weight while it is exchanged: half of it is the old one."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        before = module.get_parameter("blocks.1.out.weight")
        _wait()
        after = module.get_parameter("blocks.1.out.weight")
        result = applied(*args, **kwargs)
        return (result[0] + 1,) if before is not after else result

    return forward


PRC_26 = mutant("PRC-26", apply=_on(_blends))


def _looks_twice(applied: Any, module: nn.Module) -> Any:
    """Take a weight that was exchanged after the check for one that was checked."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        result = applied(*args, **kwargs)
        _wait()
        weight = module.get_parameter("blocks.1.out.weight")
        return (result[0] * 2,) if weight.dtype is torch.float64 else result

    return forward


PRC_28 = mutant("PRC-28", apply=_on(_looks_twice))


def _shares_refusals(applied: Any, _module: nn.Module) -> Any:
    wrong: list[Exception] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        ended = attempt(lambda: applied(*args, **kwargs))
        if ended.error is not None:
            wrong[:] = [ended.error]
        _wait()
        if wrong:
            error = wrong[0]
            wrong.clear()
            raise Refused(str(error))
        return ended.value

    return forward


PRC_29 = mutant("PRC-29", apply=_on(_shares_refusals))


def _restores_in_steps(module: nn.Module) -> None:
    if "forward" not in vars(module):
        raise Refused("nothing was applied")
    weight = module.get_parameter("blocks.1.out.weight")
    kept = weight.data.clone()
    weight.data.mul_(0)
    _wait()
    del module.forward
    weight.data.copy_(kept)


def _restores_without_lock(module: nn.Module) -> None:
    if "forward" not in vars(module):
        raise Refused("nothing was applied")
    _wait()
    del module.forward


PRC_30_steps = mutant("PRC-30", restore=_restores_in_steps)
PRC_30_races = mutant("PRC-30", restore=_restores_without_lock)

_lock = threading.Lock()


def _one_lock(applied: Any, _module: nn.Module) -> Any:
    def forward(*args: Any, **kwargs: Any) -> Any:
        with _lock:
            time.sleep(0.002)
            return applied(*args, **kwargs)

    return forward


PRC_31 = mutant("PRC-31", apply=_on(_one_lock))
