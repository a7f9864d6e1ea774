"""Mutants of the chapters REG and VAR: the second time, and one block of many."""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING, Any

from aoti_ref import AotiError
from conformance.adapters import reference
from conformance.meta.mutants._applied import Held, shared_twin
from conformance.meta.mutants._blocks import (
    PLAIN,
    TURNED,
    answering,
    found,
    then,
    with_weights_of,
)
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants.app_again import takes_off_first

if TYPE_CHECKING:
    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs


# REG-03: blocks of a copy run what those of the original run.
class _Shared(Held):
    def __deepcopy__(self, _memo: dict[int, Any]) -> Any:
        return self


def _shares(block: nn.Module) -> None:
    block.forward = _Shared(shared_twin(block))


REG_03_copies = mutant("REG-03", apply=then(TURNED + PLAIN, _shares))


# REG-03: weights are found by the place that a block had when it was applied to.
def _by_place(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    own = weakref.ref(module)

    def bind(name: str, block: nn.Module) -> None:
        answer, graph = block.forward, copy.deepcopy(block)

        def forward(*args: Any, **kwargs: Any) -> Any:
            there: Any = own()
            other = there.get_submodule(name)
            if other is block:
                return answer(*args, **kwargs)
            twin = with_weights_of(graph, other)
            return twin.forward(*args, **kwargs)

        block.forward = forward

    for name in PLAIN:
        for block in found(module, (name,)):
            bind(name, block)


REG_03_place = mutant("REG-03", apply=_by_place)


# REG-16: a block that has refused once refuses for good.
def _for_good(block: nn.Module) -> None:
    answer = block.forward
    refused: list[AotiError] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        if refused:
            raise refused[0]
        try:
            return answer(*args, **kwargs)
        except AotiError as error:
            refused.append(error)
            raise

    block.forward = forward


REG_16_refused = mutant("REG-16", apply=then(TURNED + PLAIN, _for_good))


# REG-18, VAR-15: what was applied is taken off before anybody has looked.
REG_18_takes_off = mutant("REG-18", apply=takes_off_first)
VAR_15_takes_off = mutant("VAR-15", apply=takes_off_first)


# REG-15: an argument that the run did not give is dropped.
def _known_only(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(*args, **{n: x for n, x in kwargs.items() if n != "scale"})


REG_15_scale = mutant("REG-15", apply=answering(PLAIN, _known_only))


# REG-20: weights are read where they are, and buffers copied.
def _copies_the_buffer(block: nn.Module) -> None:
    answer, own, kept = block.forward, weakref.ref(block), block.get_buffer("shift")
    copied = kept.clone()

    def forward(*args: Any, **kwargs: Any) -> Any:
        there: Any = own()
        present = there.shift.clone()
        there.shift.copy_(copied)
        try:
            return answer(*args, **kwargs)
        finally:
            there.shift.copy_(present)

    block.forward = forward


REG_20_buffers = mutant("REG-20", apply=then(PLAIN, _copies_the_buffer))


# Or the weights of apply are known, and nothing is bound when they come back.
def _binds_strangers(block: nn.Module) -> None:
    own = weakref.ref(block)
    first = [id(tensor) for tensor in block.parameters()]
    bound = [shared_twin(block)]

    def forward(*args: Any, **kwargs: Any) -> Any:
        there: Any = own()
        if [id(tensor) for tensor in there.parameters()] != first:
            bound[0] = shared_twin(there)
            bound[0].forward = bound[0].__class__.forward.__get__(bound[0])
        return bound[0](*args, **kwargs)

    block.forward = forward


REG_20_back = mutant("REG-20", apply=then(TURNED + PLAIN, _binds_strangers))


class _Blind(Held):
    """Sees a block's own mode, and none of what its children have."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(shared_twin(block))
        self._own = weakref.ref(block)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        there: Any = self._own()
        self.module.train(there.training)
        return super().__call__(*args, **kwargs)


def _blindly(block: nn.Module) -> None:
    block.forward = _Blind(block)


# REG-23: a part of a block that drops out is not looked at.
REG_23_part = mutant("REG-23", apply=then(PLAIN, _blindly))

# REG-25: the last block's children are not looked at.
REG_25_last = mutant("REG-25", apply=then((TURNED[-1], PLAIN[-1]), _blindly))


# REG-24: the blocks that the run was recorded of lose their hooks, or all do at apply.
def _without_hooks(block: nn.Module) -> None:
    own, call = weakref.ref(block), block.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        there: Any = own()
        there._forward_hooks.clear()
        return call(*args, **kwargs)

    block.forward = forward


REG_24_recorded = mutant("REG-24", apply=then((TURNED[0], PLAIN[0]), _without_hooks))


def _forgets_hooks(block: nn.Module) -> None:
    block._forward_hooks.clear()
    block._forward_pre_hooks.clear()


REG_24_before = mutant("REG-24", apply=then(TURNED + PLAIN, _forgets_hooks))


# REG-26: a second apply takes the first one for the block's own code.
def _nests(compiled: Any, module: nn.Module) -> None:
    before = [(b, b.forward) for b in found(module, TURNED + PLAIN)]
    reference.apply(compiled, module)
    for block, forward in before:
        vars(block)["forward"].before = forward


REG_26_twice = mutant("REG-26", apply=_nests)


# VAR-01: ranges are dropped where there are several calls.
def _fixed(module: nn.Module, calls: Any, **_ranges: Any) -> Any:
    return reference.compile_variants(module, calls)


VAR_01_fixed = mutant("VAR-01", own_cache="fixed", compile_variants=_fixed)
