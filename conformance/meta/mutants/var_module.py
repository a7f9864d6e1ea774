"""Mutants of the chapter VAR: modules with variants, their weights and their copies."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import aoti_ref
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import Held, on_a_shared_twin, shared_twin
from conformance.meta.mutants._graphs import Chosen, choosing, copied, first
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    import torch
    from torch import nn


VAR_10 = mutant("VAR-10", apply=choosing(first, twin=copied(1)))

VAR_11_second = mutant("VAR-11", apply=choosing(first, twin=copied(1)))
VAR_11_first = mutant("VAR-11", apply=choosing(first, twin=copied(0)))
VAR_11_last = mutant("VAR-11", apply=choosing(first, twin=copied(2)))

VAR_12 = mutant("VAR-12", apply=on_a_shared_twin)


def _twin_but_for(*numbers: int) -> Any:
    """Share everything, and the tensors' places too but for some graphs."""

    def twin(module: nn.Module, number: int) -> nn.Module:
        own = shared_twin(module)
        if number not in numbers:
            for name in ("proj", "gate"):
                setattr(own, name, module.get_submodule(name))
        return own

    return twin


VAR_12_last = mutant("VAR-12", apply=choosing(first, twin=_twin_but_for(2)))


def _counts_apart(module: nn.Module, number: int) -> nn.Module:
    own = shared_twin(module)
    if number == 1:
        own.seen = own.get_buffer("seen").clone()
    return own


class _Resetting(Chosen):
    """Goes on counting where its own calls have ended, whatever was set meanwhile."""

    last: torch.Tensor | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph = self.pick(self.graphs, args, kwargs)
        seen = graph.twin.get_buffer("seen")
        if self.last is not None:
            seen.copy_(self.last)
        result = graph(*args, **kwargs)
        self.last = seen.clone()
        return result


VAR_13_apart = mutant("VAR-13", apply=choosing(first, twin=_counts_apart))
VAR_13_resets = mutant("VAR-13", apply=choosing(first, kind=_Resetting))


def _silent(compiled: Any, module: nn.Module) -> None:
    """Leave it at eager code."""
    try:
        reference.apply(compiled, module)
    except Refused:
        module.eval()


def _half(compiled: Any, module: nn.Module) -> None:
    """Refuse, with something in place."""
    try:
        reference.apply(compiled, module)
    except Refused:
        module.forward = type(module).forward.__get__(module)
        raise


def _nameless(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused as error:
        message = "one of the graphs does not fit"
        raise Refused(message) from error


VAR_15_silent = mutant("VAR-15", apply=_silent)
VAR_15_half = mutant("VAR-15", apply=_half)
VAR_15_nameless = mutant("VAR-15", apply=_nameless)


class _Short(aoti_ref.CompiledVariants):
    """Saves all graphs but the last."""

    def dump(self) -> bytes:
        return aoti_ref.CompiledVariants(self.models[:-1]).dump()


VAR_20 = mutant("VAR-20", combine=_Short)


class _Forgetful(aoti_ref.CompiledVariants):
    """Comes out of pickle without its last graph."""

    def __reduce__(self) -> tuple[Any, ...]:
        return aoti_ref.CompiledVariants, (self.models[:-1],)


class _Stays(Chosen):
    """Comes out of pickle, and of a copy, without its first graph, or as it was."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _held, (self.graphs[0].twin,)

    def __deepcopy__(self, _memo: dict[int, Any]) -> _Stays:
        return self


def _held(twin: nn.Module) -> Held:
    return Held(twin)


VAR_21_model = mutant("VAR-21", combine=_Forgetful)
VAR_21_module = mutant("VAR-21", apply=choosing(first, kind=_Stays))


class _HalfCopied(Chosen):
    """A copy goes on with the original's last graph."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _HalfCopied:
        own = [copy.deepcopy(graph, memo) for graph in self.graphs[:-1]]
        return _HalfCopied([*own, self.graphs[-1]], self.pick)


VAR_22_all = mutant("VAR-22", apply=choosing(first, kind=_Stays))
VAR_22_last = mutant("VAR-22", apply=choosing(first, kind=_HalfCopied))


def _keeps_one(module: nn.Module) -> None:
    """Take off all graphs but the first."""
    applied: Any = module.forward
    reference.restore(module)
    if len(applied.compiled.models) > 1:
        reference.apply(applied.compiled.models[0], module)


def _lays_over(compiled: Any, module: nn.Module) -> None:
    """Keep what was applied before, to come back at restore."""
    before = vars(module).get("forward")
    reference.apply(compiled, module)
    applied: Any = module.forward
    applied.before = before


def _never_refuses(module: nn.Module) -> None:
    try:
        reference.restore(module)
    except Refused:
        module.eval()


VAR_23_one = mutant("VAR-23", restore=_keeps_one)
VAR_23_over = mutant("VAR-23", apply=_lays_over)
VAR_23_silent = mutant("VAR-23", restore=_never_refuses)

_served: dict[int, nn.Module] = {}


def _of_the_first_module(module: nn.Module, number: int) -> nn.Module:
    """Bind the second graph once, to the first module that comes."""
    if number != 1:
        return shared_twin(module)
    return shared_twin(_served.setdefault(number, module))


VAR_25 = mutant("VAR-25", apply=choosing(first, twin=_of_the_first_module))


class _HooksFirst(Chosen):
    """Runs the module's hooks once more, with the graph that it has chosen."""

    def __init__(self, graphs: Any, pick: Any) -> None:
        super().__init__(graphs, pick)
        self.hooked: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph = self.pick(self.graphs, args, kwargs)
        for hook in self.hooked._forward_hooks.values():
            hook(self.hooked, args, graph(*args, **kwargs))
        return graph(*args, **kwargs)


def _hooks_twice(compiled: Any, module: nn.Module) -> None:
    choosing(first, kind=_HooksFirst)(compiled, module)
    chosen: Any = module.forward
    chosen.hooked = module


def _before_hooks(compiled: Any, module: nn.Module) -> None:
    """Hold calls to the graphs before hooks have their say."""
    reference.apply(compiled, module)
    applied: Any = module.forward

    def check(_module: nn.Module, args: Any, kwargs: Any) -> None:
        applied._choice(args, kwargs)

    module.register_forward_pre_hook(check, with_kwargs=True)


VAR_26_twice = mutant("VAR-26", apply=_hooks_twice)
VAR_26_before = mutant("VAR-26", apply=_before_hooks)
VAR_26_children = mutant("VAR-26", apply=on_a_shared_twin)


def _loads_all(compiled: Any, module: nn.Module) -> None:
    """Load every graph at apply."""
    reference.apply(compiled, module)
    applied: Any = module.forward
    for graph in applied.graphs:
        graph.bind(module)


VAR_27 = mutant("VAR-27", apply=_loads_all)
