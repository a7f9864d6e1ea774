"""Mutants of the chapter VAR: the choice of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

import aoti_ref
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._around import around
from conformance.meta.mutants._graphs import (
    Chosen,
    Graph,
    choosing,
    first,
    unless_dead,
    without_mask,
)
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs


def _tensor(args: Args, kwargs: Kwargs) -> torch.Tensor:
    x: torch.Tensor = args[0] if args else kwargs["x"]
    return x


def _specs(graph: Graph) -> list[Any]:
    return [leaf for leaf in graph.contract.leaves if hasattr(leaf, "sizes")]


def _drifts(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    result = answer(*args, **kwargs)
    return result + 1e-2 if result.dtype is torch.float64 else result


def _last_eager(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer, eager = module.forward, type(module).forward.__get__(module)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (eager if "mask" in kwargs else answer)(*args, **kwargs)

    module.forward = forward


VAR_01_drifts = mutant("VAR-01", apply=around(_drifts))
VAR_01_eager = mutant("VAR-01", apply=_last_eager)


def _by_shape(graphs: list[Graph], args: Args, kwargs: Kwargs) -> Graph:
    """Look at shapes only: the first graph for this one."""
    shape = tuple(_tensor(args, kwargs).shape)
    fitting = [g for g in graphs if _specs(g)[0].sizes == shape]
    return fitting[0] if fitting else graphs[-1]


class _Casting(Chosen):
    """Gives the graph what it wants, whatever it was given."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph = self.pick(self.graphs, args, kwargs)
        wanted = getattr(torch, _specs(graph)[0].dtype)
        args, kwargs = pytree.tree_map_only(
            torch.Tensor, lambda x: x.to(wanted), (args, kwargs)
        )
        return graph(*args, **kwargs)


VAR_02_shape = mutant("VAR-02", apply=choosing(_by_shape))
VAR_02_casts = mutant("VAR-02", apply=choosing(_by_shape, kind=_Casting))


def _by_batch(graphs: list[Graph], args: Args, kwargs: Kwargs) -> Graph:
    """Look at the first dimension only."""
    batch = _tensor(args, kwargs).shape[0]
    return next((g for g in graphs if _specs(g)[0].sizes[0] == batch), graphs[-1])


def _example_only(graphs: list[Graph], args: Args, kwargs: Kwargs) -> Graph:
    """Know a graph by the sizes of its example."""
    known = _tensor(args, kwargs).shape[1] == 6
    return first(graphs, args, kwargs) if known else graphs[0]


VAR_03_batch = mutant("VAR-03", apply=choosing(_by_batch))
VAR_03_example = mutant("VAR-03", apply=choosing(_example_only))


def _counts_names(graphs: list[Graph], args: Args, kwargs: Kwargs) -> Graph:
    """Take an argument for given because its name is."""
    return graphs[1] if "mask" in kwargs else first(graphs, args, kwargs)


VAR_04_drops = mutant("VAR-04", apply=around(without_mask))
VAR_04_none = mutant("VAR-04", apply=choosing(_counts_names))


def _by_position(graphs: list[Graph], args: Args, kwargs: Kwargs) -> Graph:
    """Look at positional tensors, and at names for the mask only."""
    dtype = args[0].dtype if args else torch.float32
    if dtype is torch.float64:
        return graphs[2]
    return graphs[1] if kwargs.get("mask") is not None else graphs[0]


def _by_count(graphs: list[Graph], args: Args, kwargs: Kwargs) -> Graph:
    """Tell graphs apart by the number of arguments."""
    if len(args) + len(kwargs) > 1:
        return graphs[1]
    return graphs[2] if _tensor(args, kwargs).dtype is torch.float64 else graphs[0]


VAR_05_position = mutant("VAR-05", apply=choosing(_by_position))
VAR_05_count = mutant("VAR-05", apply=choosing(_by_count))


def _to_the_last(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Fall through: the last graph gets what nobody takes, bent until it fits."""
    try:
        return answer(*args, **kwargs)
    except aoti_ref.NoVariant:
        x = torch.zeros(2, 6, 8, dtype=torch.float64)
        return answer(x).to(_tensor(args, kwargs).dtype)


def _back_to_eager(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer, eager = module.forward, type(module).forward.__get__(module)

    def forward(*args: Any, **kwargs: Any) -> Any:
        try:
            return answer(*args, **kwargs)
        except aoti_ref.NoVariant:
            return eager(*args, **kwargs)

    module.forward = forward


VAR_06_last = mutant("VAR-06", apply=around(_to_the_last))
VAR_06_eager = mutant("VAR-06", apply=_back_to_eager)


def _telling(number: int) -> Any:
    """Refuse with what one of the graphs says."""

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        try:
            return answer(*args, **kwargs)
        except aoti_ref.NoVariant as error:
            faults = error.refusals[number].faults
            raise aoti_ref.BadCall(error.module, faults) from None

    return change


VAR_07_first = mutant("VAR-07", apply=around(_telling(0)))
VAR_07_last = mutant("VAR-07", apply=around(_telling(-1)))


def _last(graphs: list[Graph], args: Args, kwargs: Kwargs) -> Graph:
    return first(graphs[::-1], args, kwargs)


def _widest(graphs: list[Graph], args: Args, kwargs: Kwargs) -> Graph:
    """Ask those with ranges first."""
    order = sorted(graphs, key=lambda graph: -len(graph.contract.symbols))
    return first(order, args, kwargs)


class _Recent(Chosen):
    """Asks the graph first that has answered before."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph = first(self.graphs, args, kwargs)
        self.graphs = [graph, *(g for g in self.graphs if g is not graph)]
        return graph(*args, **kwargs)


VAR_08_reversed = mutant("VAR-08", apply=choosing(_last))
VAR_08_widest = mutant("VAR-08", apply=choosing(_widest))
VAR_08_recent = mutant("VAR-08", apply=choosing(first, kind=_Recent))


def _nameless(models: Any) -> Any:
    try:
        return reference.combine(models)
    except Refused as error:
        message = "a graph would never answer"
        raise Refused(message) from error


VAR_09_silent = mutant("VAR-09", combine=unless_dead)
VAR_09_nameless = mutant("VAR-09", combine=_nameless)
