"""Chapter QNT: repeated blocks with quantised weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance import gauges, tensors
from conformance.clauses._regions import assert_blocks_agree, blocks_of
from conformance.models import quantised
from conformance.models.quantised import Tower
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
)

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@clause("QNT-14")
def test_quantised_blocks_have_their_own_scales(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = quantised.quantised(Tower, seed)
    compiled = cache.regions(copy.deepcopy(module), _named(seed))
    before = gauges.libraries()  # compilers have libraries too

    twins = Pair(module, applied_copy(impl, compiled, module))

    assert_blocks_agree(twins, _named(seed + 1))
    assert len(gauges.libraries() - before) <= 1


@clause("QNT-14")
@pytest.mark.parametrize("index", range(3))
def test_a_scale_that_changes_in_one_block_counts_there(
    impl: Adapter, cache: PackageCache, seed: int, index: int
) -> None:
    module = quantised.quantised(Tower, seed)
    compiled = cache.regions(copy.deepcopy(module), _named(seed))
    twins = Pair(module, applied_copy(impl, compiled, module))
    twins.applied(**_named(seed).kwargs)

    for each in twins:
        weight = each.get_parameter(f"blocks.{index}.up.weight")
        held = dict(tensors.inside(weight)).values()
        next(t for t in held if t.dtype is torch.float32).mul_(4)

    assert_equal_or_refused(twins, _named(seed + 1))


def _named(seed: int) -> Any:
    call = quantised.call(seed=seed)
    return call._replace(args=(), kwargs={"x": call.args[0]})


@clause("QNT-15")
@pytest.mark.parametrize("other", ["plain", "weight_only_per_tensor"])
def test_blocks_quantised_otherwise_are_right_or_refused(
    impl: Adapter, cache: PackageCache, other: str, seed: int
) -> None:
    module = quantised.plain(Tower, seed)
    for index, block in enumerate(blocks_of(module).values()):
        if index != 1:
            quantised.quantise(block)
        elif other != "plain":
            quantised.quantise(block, other)

    def make() -> Pair:
        compiled = cache.regions(copy.deepcopy(module), _named(seed))
        return Pair(module, applied_copy(impl, compiled, module))

    assert_agrees_or_refuses(make, [_named(seed + 1)])
