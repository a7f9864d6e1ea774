"""Mutants of the chapter VAR: what runs, what is built, and what is remembered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

import aoti_ref
from conformance.adapters import reference
from conformance.meta.mutants._around import around
from conformance.meta.mutants._blocks import answering, found
from conformance.meta.mutants._graphs import (
    Chosen,
    Graph,
    choosing,
    first,
    without_mask,
)
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs


class _Trying(Chosen):
    """Runs the first graph, too, to see whether it would."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.graphs[0](torch.zeros(2, 6, 8))
        return super().__call__(*args, **kwargs)


def _twice(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    answer(*args, **kwargs)
    return answer(*args, **kwargs)


def _counts_all(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer: Any = module.forward
    seen = module.get_buffer("seen")

    def forward(*args: Any, **kwargs: Any) -> Any:
        try:
            return answer(*args, **kwargs)
        except aoti_ref.BadCall:
            seen.add_(1)
            raise

    module.forward = forward


VAR_14_tries = mutant("VAR-14", apply=choosing(first, kind=_Trying))
VAR_14_twice = mutant("VAR-14", apply=around(_twice))
VAR_14_refused = mutant("VAR-14", apply=_counts_all)


def _made_of(keep: slice) -> Any:
    """Compile for some of the calls, and say nothing of the others."""

    def compile_variants(module: nn.Module, calls: Any, *, dynamic: Any = None) -> Any:
        return reference.compile_variants(module, calls[keep], dynamic=dynamic)

    return compile_variants


def _leaves_a_trace(module: nn.Module, calls: Any, *, dynamic: Any = None) -> Any:
    module.building = True  # type: ignore[assignment]
    made = reference.compile_variants(module, calls, dynamic=dynamic)
    del module.building
    return made


VAR_16_skips = mutant("VAR-16", compile_variants=_made_of(slice(1)))
VAR_16_trace = mutant("VAR-16", compile_variants=_leaves_a_trace)
VAR_17_first = mutant("VAR-17", compile_variants=_made_of(slice(1)))
VAR_17_last = mutant(
    "VAR-17", own_cache="last", compile_variants=_made_of(slice(-1, None))
)


class _Remembering(Chosen):
    """Goes on with what it chose when a call was refused."""

    kept: Graph | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph = self.kept or first(self.graphs, args, kwargs)
        self.kept = None
        try:
            return graph(*args, **kwargs)
        except aoti_ref.BadCall:
            self.kept = graph
            raise


VAR_18 = mutant("VAR-18", apply=choosing(first, kind=_Remembering))


class _Racing(Chosen):
    """Keeps its choice where every thread does."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.slot = first(self.graphs, args, kwargs)
        time.sleep(1e-5)
        return self.slot(*args, **kwargs)


VAR_19 = mutant("VAR-19", apply=choosing(first, kind=_Racing))

_CELLS = ("cells.0", "cells.1")


def _eager_when_masked(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    for cell in found(module, _CELLS):
        answer, eager = cell.forward, type(cell).forward.__get__(cell)

        def forward(
            *args: Any, answer: Any = answer, eager: Any = eager, **kwargs: Any
        ) -> Any:
            return (eager if "mask" in kwargs else answer)(*args, **kwargs)

        cell.forward = forward


def _masked_by_the_first(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    cells: list[Any] = found(module, _CELLS)
    one, other = (cell.forward for cell in cells)
    cells[1].forward = lambda *args, **kwargs: (one if "mask" in kwargs else other)(
        *args, **kwargs
    )


VAR_24_drops = mutant("VAR-24", apply=answering(_CELLS, without_mask))
VAR_24_eager = mutant("VAR-24", apply=_eager_when_masked)
VAR_24_weights = mutant("VAR-24", apply=_masked_by_the_first)
