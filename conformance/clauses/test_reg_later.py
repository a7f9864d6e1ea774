"""Chapter REG: blocks that change places, are not called, or had other weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conformance.clauses._applied import unless_refused
from conformance.clauses._regions import assert_blocks_agree, compiled_twofold
from conformance.models import blocks, regions
from conformance.spec import clause
from conformance.workbench import Pair, applied_copy, assert_equal_or_refused, refuses

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.adapter_graphs import Regional
    from conformance.cache import PackageCache


@pytest.fixture
def twofold(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Give a pair that was called: what is native is there."""
    module = blocks.seeded(regions.Twofold, seed)
    compiled = compiled_twofold(cache, seed)
    twins = Pair(module, applied_copy(impl, compiled, module))
    twins.applied(**regions.call().kwargs)
    return twins


@clause("REG-03")
@pytest.mark.parametrize("name", ["turned", "plain"])
def test_blocks_that_change_places_keep_their_weights(twofold: Pair, name: str) -> None:
    for twin in twofold:
        row: Any = twin.get_submodule(name)
        row[0], row[2] = row[2], row[0]

    assert_equal_or_refused(twofold, regions.call())


@clause("REG-16")
def test_ranges_hold_after_a_refusal(twofold: Pair) -> None:
    for tokens in (1, 33):
        unless_refused(lambda: twofold.applied(**regions.call(tokens).kwargs))  # noqa: B023

        assert_blocks_agree(twofold, regions.call(tokens=7))


@clause("REG-20")
@pytest.mark.parametrize("name", ["turned.3", "plain.1"])
def test_a_weight_that_comes_back_counts(twofold: Pair, name: str) -> None:
    layers: list[Any] = [twin.get_submodule(f"{name}.proj") for twin in twofold]
    first = [layer.weight for layer in layers]

    for twin in twofold:
        regions.replaced(twin.get_submodule(name))
    assert_equal_or_refused(twofold, regions.call())
    for layer, weight in zip(layers, first, strict=True):
        layer.weight = weight

    assert_equal_or_refused(twofold, regions.call())


@clause("REG-12")
def test_blocks_of_a_run_that_calls_none_are_named(impl: Regional, seed: int) -> None:
    row = blocks.seeded(lambda: regions.Row(regions.Cell(), regions.Cell()), seed)

    with refuses() as refusal:
        impl.compile_regions(row, lambda: None)

    assert [name for name in ("cells.0", "cells.1") if name not in str(refusal)] == []
