"""Ways to break the choice among several graphs: each runs on a twin of the module."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import aoti_ref
from conformance.adapters import reference
from conformance.meta.mutants._applied import shared_twin

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs

    Pick = Callable[[list["Graph"], Args, Kwargs], "Graph"]
    Twin = Callable[[nn.Module, int], nn.Module]


class Graph:
    """One graph on a twin of a module."""

    def __init__(self, model: Any, twin: nn.Module) -> None:
        reference.apply(model, twin)
        self.twin = twin
        self.contract = model.package.contract

    def takes(self, args: Args, kwargs: Kwargs) -> bool:
        """Whether a call keeps its contract."""
        applied: Any = self.twin.forward
        return applied.graphs[0].check.attempt(args, kwargs)[0] is not None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.twin.forward(*args, **kwargs)


def first(graphs: list[Graph], args: Args, kwargs: Kwargs) -> Graph:
    """Pick as the reference does; the last graph refuses what none of them takes."""
    return next((g for g in graphs if g.takes(args, kwargs)), graphs[-1])


def twins(module: nn.Module, _number: int) -> nn.Module:
    """Copy a module without its tensors."""
    return shared_twin(module)


def copied(*numbers: int) -> Twin:
    """Copy the module with its tensors for graphs of these numbers."""

    def twin(module: nn.Module, number: int) -> nn.Module:
        return copy.deepcopy(module) if number in numbers else shared_twin(module)

    return twin


class Chosen:
    """A forward that gives every call to the graph that is picked."""

    def __init__(self, graphs: list[Graph], pick: Pick) -> None:
        self.graphs = graphs
        self.pick = pick

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.pick(self.graphs, args, kwargs)(*args, **kwargs)


def choosing(pick: Pick, *, twin: Twin = twins, kind: type[Chosen] = Chosen) -> Any:
    """Apply variants such that calls go to the graph that `pick` picks.

    Args:
        pick: What chooses.
        twin: Makes the module that a graph runs on.
        kind: The class of the forward.
    """

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, copy.deepcopy(module))  # refuse what it refuses
        if len(compiled.models) == 1:
            reference.apply(compiled, module)
            return
        graphs = [Graph(m, twin(module, n)) for n, m in enumerate(compiled.models)]
        module.forward = kind(graphs, pick)

    return apply


def unless_dead(models: Any) -> Any:
    """Combine without looking at domains."""
    try:
        return aoti_ref.CompiledVariants(models)
    except aoti_ref.DeadVariant:
        return aoti_ref.CompiledVariants(models[:1])


def without_mask(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Answer as if there were no mask."""
    return answer(*args, **{n: v for n, v in kwargs.items() if n != "mask"})
