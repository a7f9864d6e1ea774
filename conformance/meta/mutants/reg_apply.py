"""Mutants of the chapter REG: blocks after apply, restored, saved and pickled."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref import AotiError
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import Held, shared_twin
from conformance.meta.mutants._blocks import (
    PLAIN,
    TURNED,
    answering,
    found,
    half_stale,
    stale,
    then,
    with_weights_of,
)
from conformance.meta.mutants._make import mutant
from conformance.models import regions

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs

_ALL = TURNED + PLAIN


def _always_two(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(*args[:2], 2, **kwargs)


REG_15 = mutant("REG-15", apply=answering(TURNED, _always_two))


def _wrong_at_the_end(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    result = answer(*args, **kwargs)
    return result + 1e-2 if result.shape[1] == 32 else result


REG_16 = mutant("REG-16", apply=answering(("plain.1",), _wrong_at_the_end))


def _lets_through(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except AotiError:
        return [*args, *kwargs.values()][0]


def _nameless(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except AotiError as error:
        message = "something does not fit"
        raise RuntimeError(message) from error


REG_17_lets_through = mutant("REG-17", apply=answering(_ALL, _lets_through))
REG_17_nameless = mutant("REG-17", apply=answering(_ALL, _nameless))


def _half(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        block = module.get_submodule("plain.0")
        block.forward = type(block).forward.__get__(block)
        raise


def _trusting(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        module.eval()


REG_18_half = mutant("REG-18", apply=_half)
REG_18_trusting = mutant("REG-18", apply=_trusting)


def _without_the_new(compiled: Any, module: nn.Module) -> None:
    plain: Any = module.get_submodule("plain")
    new = [plain.pop(3)] if len(plain) > 3 else []
    reference.apply(compiled, module)
    plain.extend(new)


def _by_weights_only(compiled: Any, module: nn.Module) -> None:
    others: list[Any]
    others = [p for p in module.modules() if type(p) is regions.Sharper]
    for other in others:
        other.__class__ = regions.Plain
    reference.apply(compiled, module)
    for other in others:
        other.__class__ = regions.Sharper


def _by_shapes_only(compiled: Any, module: nn.Module) -> None:
    twin = copy.deepcopy(module)
    for part in twin.modules():
        if isinstance(part, regions.Plain):
            part.slope = 0.1
    reference.apply(compiled, twin)
    for name in _ALL:
        if name in dict(module.named_modules()):
            module.get_submodule(name).forward = Held(twin.get_submodule(name))


REG_19_more = mutant("REG-19", apply=_without_the_new)
REG_19_class = mutant("REG-19", apply=_by_weights_only)
REG_19_number = mutant("REG-19", apply=_by_shapes_only)

REG_20_stale = mutant("REG-20", apply=then(_ALL, stale))
REG_20_but_the_first = mutant("REG-20", apply=then((*TURNED[1:], *PLAIN[1:]), stale))
REG_20_exchanged = mutant("REG-20", apply=then(_ALL, half_stale))


def _once(block: nn.Module) -> None:
    """Follow the first change of a weight, and no other."""
    twin = copy.deepcopy(block)
    weight, own = (b.get_parameter("proj.weight") for b in (block, twin))
    changes: list[bool] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not changes and not torch.equal(weight, own):
            own.data.copy_(weight)
            changes.append(True)
        return twin.forward(*args, **kwargs)

    block.forward = forward


REG_21_once = mutant("REG-21", apply=then(_ALL, _once))
REG_21_deaf = mutant("REG-21", apply=then(_ALL, stale))

REG_22_ignores = mutant("REG-22", apply=then(_ALL, half_stale))
REG_22_nameless = mutant("REG-22", apply=answering(_ALL, _nameless))

REG_23 = mutant("REG-23", apply=then(_ALL, half_stale))


class _Deaf(OrderedDict):  # type: ignore[type-arg]
    """Hooks that nobody can add to."""

    def __setitem__(self, _key: Any, _hook: Any) -> None:
        return


def _drops_hooks(block: nn.Module) -> None:
    block._forward_hooks = _Deaf()


def _hooks_twice(block: nn.Module) -> None:
    twin = shared_twin(block)
    twin._forward_hooks = block._forward_hooks
    block.forward = lambda *args, **kwargs: twin(*args, **kwargs)  # noqa: PLW0108  # a module would become a child


REG_24_drops = mutant("REG-24", apply=then(_ALL, _drops_hooks))
REG_24_twice = mutant("REG-24", apply=then(_ALL, _hooks_twice))

REG_25 = mutant("REG-25", apply=then(_ALL, half_stale))


def _forgets_the_last(module: nn.Module) -> None:
    last = [(block, block.forward) for block in found(module, PLAIN[2:])]
    reference.restore(module)
    for block, forward in last:
        block.forward = forward


def _never_refuses(module: nn.Module) -> None:
    try:
        reference.restore(module)
    except Refused:
        module.eval()


REG_26_last = mutant("REG-26", restore=_forgets_the_last)
REG_26_silent = mutant("REG-26", restore=_never_refuses)


def _loads_all_but_one(folder: Path) -> Any:
    compiled: Any = reference.load(folder)
    first, *others = compiled.regions
    fewer = first._replace(names=first.names[:-1])
    lost = {first.names[-1]: "lost"}
    return replace(compiled, regions=(fewer, *others), eager=lost)


REG_27 = mutant("REG-27", load=_loads_all_but_one)


def _unchanged(hidden_states: torch.Tensor) -> torch.Tensor:
    return hidden_states


class _Forgetful(Held):
    """Comes out of pickle as something else."""

    def __reduce__(self) -> Any:
        return _nothing_done, ()


def _nothing_done() -> Any:
    return _unchanged


def _forgets(block: nn.Module) -> None:
    twin = copy.deepcopy(block)
    block.forward = _Forgetful(twin)


REG_28 = mutant("REG-28", apply=then(PLAIN, _forgets))

_first: dict[str, Any] = {}


def _first_module_for_all(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    for name in PLAIN:
        block = module.get_submodule(name)
        kept = _first.setdefault(name, copy.deepcopy(block))
        block.forward = Held(kept)


def _layers_of_first(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    for name in PLAIN[1:]:
        block = module.get_submodule(name)
        kept = _first.setdefault(f"layer {name}", copy.deepcopy(block))
        block.forward = Held(with_weights_of(block, kept))


REG_29_modules = mutant("REG-29", apply=_first_module_for_all)
REG_29_layers = mutant("REG-29", apply=_layers_of_first)
