"""Chapter APP: what an applied module answers, however often it is applied."""

from __future__ import annotations

import copy
import gc
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from torch import nn

from conformance.adapter import Call
from conformance.clauses import _memory
from conformance.clauses._applied import assert_drops_or_refuses, unless_refused
from conformance.models import applying, blocks, constants, memory, values
from conformance.spec import clause
from conformance.strategies import seeds, sizes
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    attempt,
    pair,
    ran_compiled,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

RANGES = {"hidden_states": {1: blocks.TOKENS}}


@pytest.fixture
def kinds(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(applying.Kinds, seed)
    return pair(impl, cache, module, applying.kinds_call())


@pytest.fixture
def stack(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(blocks.Stack, seed)
    return pair(impl, cache, module, blocks.call(), dynamic=RANGES)


@pytest.fixture
def noisy(cache: PackageCache) -> Any:
    return cache.compiled(blocks.seeded(applying.Noisy), applying.kinds_call())


@clause("APP-01")
@given(tokens=sizes(blocks.TOKENS), draw=seeds())
def test_an_applied_module_answers_as_eager_at_every_size(
    stack: Pair, tokens: int, draw: int
) -> None:
    assert_agrees(stack, blocks.call(tokens, seed=draw))


@clause("APP-01")
@pytest.mark.parametrize("mode", values.MODES)
def test_a_module_in_another_mode_is_answered_as_eager_or_refused(
    impl: Adapter, cache: PackageCache, seed: int, mode: str
) -> None:
    module = blocks.seeded(values.Valued, seed)
    twins = pair(impl, cache, module, constants.call())
    assert_agrees(twins, constants.call())

    _, key, value = values.MODES[mode]
    for each in twins:
        setattr(each, key, value)

    assert_equal_or_refused(twins, constants.call(1))


@clause("APP-02")
def test_compiled_code_answers(impl: Adapter, cache: PackageCache, seed: int) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    applied = pair(impl, cache, module, blocks.call()).applied
    blocks.entered.clear()

    with ran_compiled(applied):
        applied(**blocks.call().kwargs)

    assert blocks.entered == []


@clause("APP-02")
def test_compiled_code_answers_where_it_was_taken_off_before(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(applying.Kinds, seed)
    source = blocks.seeded(applying.Kinds, seed)
    compiled = cache.compiled(source, applying.kinds_call())
    applied = applied_copy(impl, compiled, module)

    for n in range(2):
        if "restore" in impl.capabilities:
            attempt(partial(_memory.restored, impl, applied))
        else:  # whoever cannot take it off answers for a second apply in APP-24
            applied = copy.deepcopy(module)
        for _ in unless_refused(partial(impl.apply, compiled, applied)):
            assert_agrees(Pair(module, applied), applying.kinds_call(n))


@clause("APP-13")
def test_a_weight_that_comes_back_is_not_stale(kinds: Pair) -> None:
    layers: list[Any] = [twin.get_submodule("first") for twin in kinds]
    first = [layer.bias for layer in layers]

    assert_equal_or_refused(kinds, applying.kinds_call(1))
    for layer, bias in zip(layers, first, strict=True):
        layer.bias = nn.Parameter(bias + 1, requires_grad=False)
    assert_equal_or_refused(kinds, applying.kinds_call(1))
    for layer, bias in zip(layers, first, strict=True):
        layer.bias = bias

    assert_equal_or_refused(kinds, applying.kinds_call(1))


@clause("APP-22")
def test_one_compiled_model_serves_several_modules(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    modules = [blocks.seeded(applying.Kinds, seed + n) for n in range(3)]
    source = blocks.seeded(applying.Kinds, seed)
    compiled = cache.compiled(source, applying.kinds_call())

    def apply() -> list[nn.Module]:
        return [applied_copy(impl, compiled, module) for module in modules]

    for applied in unless_refused(apply):
        for n in (0, 1, 2, 0, 2, 1, 0):
            assert_agrees(Pair(modules[n], applied[n]), applying.kinds_call(n))


@clause("APP-22")
def test_a_compiled_model_serves_those_that_are_left(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(applying.Kinds, seed)
    compiled = cache.compiled(
        blocks.seeded(applying.Kinds, seed), applying.kinds_call()
    )
    first = applied_copy(impl, compiled, module)

    for other in unless_refused(lambda: applied_copy(impl, compiled, module)):
        for each in (first, other):
            each(*applying.kinds_call().args)
        del first, each
        gc.collect()

        assert_agrees(Pair(module, other), applying.kinds_call(1))


@clause("APP-24")
def test_applying_again_replaces(impl: Adapter, cache: PackageCache, seed: int) -> None:
    module = blocks.seeded(applying.Kinds, seed)

    def twice() -> Pair:
        source = blocks.seeded(applying.Kinds, seed)
        compiled = cache.compiled(source, applying.kinds_call())
        applied = applied_copy(impl, compiled, module)
        impl.apply(compiled, applied)
        return Pair(module, applied)

    assert_agrees_or_refuses(twice, [applying.kinds_call(n) for n in range(3)])


@clause("APP-24")
def test_applying_another_compiled_model_replaces(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    first, other = (_memory.compiled_tied(cache, seed, rows) for rows in (2, 3))
    module = blocks.seeded(memory.Tied, seed)
    applied = applied_copy(impl, first, module)
    applied(*memory.tied_call(rows=2).args)

    for _ in unless_refused(lambda: impl.apply(other, applied)):
        assert_agrees(Pair(module, applied), memory.tied_call(rows=3))


def all_of_it(module: nn.Module) -> None:
    module.train()


def a_part_of_it(module: nn.Module) -> None:
    module.get_submodule("drop").train()


@clause("APP-25")
@pytest.mark.parametrize("starts_training", [all_of_it, a_part_of_it])
def test_training_mode_after_apply_is_refused_or_honoured(
    impl: Adapter, noisy: Any, starts_training: Callable[[nn.Module], None]
) -> None:
    applied = applied_copy(impl, noisy, blocks.seeded(applying.Noisy))
    applied(*applying.kinds_call().args)

    starts_training(applied)

    assert_drops_or_refuses(lambda: applied)


@clause("APP-25")
@pytest.mark.parametrize("starts_training", [all_of_it, a_part_of_it])
def test_training_mode_at_apply_is_refused_or_honoured(
    impl: Adapter, noisy: Any, starts_training: Callable[[nn.Module], None]
) -> None:
    module = blocks.seeded(applying.Noisy)

    starts_training(module)

    assert_drops_or_refuses(lambda: applied_copy(impl, noisy, module))


@clause("APP-25")
def test_training_mode_deep_down_is_refused_or_honoured(
    impl: Adapter, cache: PackageCache
) -> None:
    module = blocks.seeded(partial(applying.Deep, applying.Noisy))
    applied = pair(impl, cache, module, applying.kinds_call()).applied
    applied(*applying.kinds_call().args)

    a_part_of_it(applied.get_submodule("inner"))

    assert_drops_or_refuses(lambda: applied)


BAD_CALLS = {
    "nothing": Call((), {}),
    "another name": Call((), {"y": torch.ones(3, 4)}),
    "one too many": Call((torch.ones(3, 4), torch.ones(3, 4)), {}),
}


@clause("APP-26")
@pytest.mark.parametrize("bad", BAD_CALLS.values(), ids=BAD_CALLS)
def test_a_refused_call_leaves_the_module_usable(kinds: Pair, bad: Call) -> None:
    for n in range(10):
        with refuses():
            kinds.applied(*bad.args, **bad.kwargs)

        assert_agrees(kinds, applying.kinds_call(n))


@clause("APP-26")
def test_a_call_refused_for_its_weights_leaves_the_module_usable(kinds: Pair) -> None:
    first = kinds.applied.get_submodule("first")
    kinds.applied(*applying.kinds_call().args)
    kept = first.bias

    first.bias = nn.Parameter(torch.ones(4).double(), requires_grad=False)
    unless_refused(lambda: kinds.applied(*applying.kinds_call().args))
    first.bias = kept

    assert_agrees(kinds, applying.kinds_call(1))
