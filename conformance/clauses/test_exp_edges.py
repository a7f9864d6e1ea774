"""Chapter EXP: ranges that reach down to nothing, and forwards that are wrapped."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

import pytest

from conformance.adapter import Call, Range
from conformance.clauses._constants import unless_made
from conformance.models import bare, blocks
from conformance.models import export as models
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_agrees_or_refuses,
    built,
    pair,
)

if TYPE_CHECKING:
    import torch
    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@clause("EXP-05")
def test_a_range_from_nothing_holds_or_is_refused(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    ranges = {"hidden_states": {1: Range("tokens", 0, 24)}}

    def make() -> Pair:
        return pair(impl, cache, module, blocks.call(), dynamic=ranges)

    assert_agrees_or_refuses(make, [blocks.call(n, seed=n) for n in (24, 1, 0)])


def _thrice(
    module: nn.Module, x: torch.Tensor, *more: torch.Tensor, **named: Any
) -> Any:
    return 3 * type(module).forward(module, x, *more, **named)


@clause("EXP-23")
@pytest.mark.usefixtures("cache")  # it keeps the compiler's headers
def test_a_forward_that_wraps_that_of_the_class_is_right_or_refused(
    impl: Adapter, seed: int
) -> None:
    module = blocks.seeded(models.Variadic, seed)
    module.forward = MethodType(_thrice, module)

    def call(draw: int) -> Call:
        x, y, z = (blocks.normal(5, 4, seed=draw + n) for n in range(3))
        return Call((x, y), {"scale": 2.0, "shift": z})

    assert_agrees_or_refuses(lambda: built(impl, module, call(0)), [call(0), call(1)])


@clause("EXP-18")
@pytest.mark.parametrize("what", ["rows", *bare.Bare.FIXED])
def test_a_result_that_is_one_python_value_comes_back_as_it(
    impl: Adapter, cache: PackageCache, what: str
) -> None:
    module = blocks.seeded(lambda: bare.Bare(what))

    for twins in unless_made(lambda: pair(impl, cache, module, bare.call())):
        for draw in range(2):
            assert_agrees(twins, bare.call(seed=draw))
