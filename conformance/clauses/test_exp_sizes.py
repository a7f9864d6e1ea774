"""Chapter EXP: which sizes a graph admits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conformance.adapter import Call, Range
from conformance.models import blocks
from conformance.models import export as models
from conformance.spec import clause
from conformance.strategies import sizes
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    declined,
    pair,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

TOKENS = {"hidden_states": {1: blocks.TOKENS}}
FIXED = {"extra": None, "flag": None, "n": None, "mode": None}
ROWS = {"x": {0: models.ROWS}, "parts": ({0: models.ROWS}, [None]), **FIXED}


def _name(make: type) -> str:
    return make.__name__.lower()


@pytest.fixture
def stack(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(blocks.Stack, seed)
    return pair(impl, cache, module, blocks.call(), dynamic=TOKENS)


@clause("EXP-02")
@pytest.mark.parametrize("key", ["hidden_state", "tokens", "scales"])
def test_a_range_for_no_argument_is_refused_by_name(impl: Adapter, key: str) -> None:
    module = blocks.seeded(blocks.Stack)

    with declined("export", key):
        impl.export(
            module, blocks.call(), dynamic={**TOKENS, key: {0: Range("n", 2, 4)}}
        )


@clause("EXP-03")
def test_an_example_of_size_one_is_no_constant(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    batches = {"hidden_states": {0: Range("batch", 1, 6)}}
    one = blocks.call(batch=1)

    def make() -> Pair:
        twins = pair(impl, cache, module, one, dynamic=batches)
        for batch in (1, 2, 5, 6):
            assert_agrees(twins, blocks.call(batch=batch, seed=batch))
        return twins

    assert_agrees_or_refuses(make, [blocks.call(batch=7)])


@clause("EXP-04")
@given(height=st.integers(2, 9), width=st.integers(2, 9))
def test_equal_example_sizes_are_two_dimensions(
    square: Pair, height: int, width: int
) -> None:
    x = blocks.normal(height, width, seed=height)

    assert_agrees(square, Call((x,), {}))


@pytest.fixture
def square(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    ranges = {"x": {0: Range("height", 2, 9), 1: Range("width", 2, 9)}}
    module = blocks.seeded(models.Square, seed)
    return pair(impl, cache, module, Call((blocks.normal(6, 6),), {}), dynamic=ranges)


@clause("EXP-05")
@given(tokens=sizes(blocks.TOKENS) | st.sampled_from([3, 5, 7, 11, 13, 17, 19, 23]))
def test_an_accepted_range_holds_everywhere(stack: Pair, tokens: int) -> None:
    assert_agrees(stack, blocks.call(tokens, batch=2, seed=tokens))


@clause("EXP-05")
def test_every_size_of_an_accepted_range_is_right(stack: Pair) -> None:
    for tokens in range(blocks.TOKENS.min, blocks.TOKENS.max + 1):
        assert_agrees(stack, blocks.call(tokens, batch=2, seed=tokens))


@clause("EXP-06")
@pytest.mark.parametrize(
    "make", [models.Grouped, models.AtLeastEight, models.NotFive], ids=_name
)
def test_a_range_that_the_module_contradicts_is_refused(
    impl: Adapter, cache: PackageCache, seed: int, make: Callable[[], nn.Module]
) -> None:
    module = blocks.seeded(make, seed)
    ranges = {"x": {0: Range("rows", 4, 32)}}

    def built() -> Pair:
        return pair(impl, cache, module, models.rows_call(8), dynamic=ranges)

    sizes = (4, 5, 7, 8, 16, 30, 32)
    assert_agrees_or_refuses(built, [models.rows_call(n, seed=n) for n in sizes])


@clause("EXP-07")
def test_derived_dimensions_are_held_to_their_factor(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    ranges = {"x": {0: Range("h", 2, 8)}, "y": {0: Range("h", 2, 8, times=2)}}
    module = blocks.seeded(models.Doubled, seed)
    twins = pair(impl, cache, module, doubled(5, 10), dynamic=ranges)

    for h in (2, 3, 5, 7, 8):
        assert_agrees(twins, doubled(h, 2 * h))
    for h, other in ((3, 7), (3, 8), (4, 6), (2, 5)):
        with refuses():
            twins.applied(*doubled(h, other).args)


def doubled(h: int, other: int) -> Call:
    return Call((blocks.normal(h, 4), blocks.normal(other, 4, seed=1)), {})


@clause("EXP-08", may_refuse="setup")  # EXP-17 lets Rich be refused for its result
@given(rows=st.integers(1, 13), more=st.integers(-12, 12))
def test_a_shared_range_is_one_size(rich: Pair, rows: int, more: int) -> None:
    assert_equal_or_refused(rich, rich_call(rows, more=max(more, -rows)))


@clause("EXP-08", may_refuse="setup")
def test_arguments_of_one_size_are_answered(rich: Pair) -> None:
    for rows in (2, 3, 7, 12):
        assert_agrees(rich, rich_call(rows))


@pytest.fixture
def rich(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(models.Rich, seed)
    return pair(impl, cache, module, rich_call(), dynamic=ROWS)


def rich_call(rows: int = 5, **other: Any) -> Call:
    return models.rich_call(rows, **{"flag": True, "n": 3, "mode": "minus", **other})


@clause("EXP-15", may_refuse="setup")
def test_flags_and_scalars_hold_beside_ranges(rich: Pair) -> None:
    for rows in (2, 3, 7, 12):
        assert_agrees(rich, rich_call(rows, seed=rows))


@clause("EXP-15", may_refuse="setup")
def test_other_flags_and_scalars_are_noticed(rich: Pair) -> None:
    others: list[dict[str, Any]] = [
        {"flag": False},
        {"flag": 1},
        {"n": 2},
        {"n": 3.0},
        {"n": None},
        {"mode": "plus"},
        {"mode": None},
    ]

    for other in others:
        assert_equal_or_refused(rich, rich_call(7, **other))


@clause("EXP-19")
def test_fixed_sizes_stay_fixed(impl: Adapter, cache: PackageCache, seed: int) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    twins = pair(impl, cache, module, blocks.call(tokens=8, batch=2))

    for tokens, batch in ((9, 2), (7, 2), (16, 2), (8, 1), (8, 3), (1, 1)):
        assert_equal_or_refused(twins, blocks.call(tokens=tokens, batch=batch))


@clause("EXP-19")
def test_values_that_the_module_excludes_stay_excluded(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Bounded, seed)

    def call(count: int) -> Call:
        (x,) = models.rows_call().args
        return Call((x, torch.tensor(count, device=x.device)), {})

    def make() -> Pair:
        return pair(impl, cache, module, call(4))

    assert_agrees_or_refuses(make, [call(n) for n in (1, 2, 8, 0, 9, -3)])


@clause("EXP-20")
@pytest.mark.parametrize(
    "ends", [(9, 24), (2, 7), (30, 40), (8, 2), (8, 8)], ids=lambda e: f"{e[0]}..{e[1]}"
)
def test_a_range_must_fit_its_example(impl: Adapter, ends: Any) -> None:
    module = blocks.seeded(blocks.Stack)
    ranges = {"hidden_states": {1: Range("tokens", *ends)}}

    with declined("export"):
        impl.export(module, blocks.call(tokens=8), dynamic=ranges)


@clause("EXP-20")
@pytest.mark.parametrize(
    "ranges",
    [
        {"x": {2: models.ROWS}},
        {"x": {0: models.ROWS}, "flag": {0: models.ROWS}},
        {"parts": ({0: models.ROWS},)},
        {"extra": {"loss": {0: models.ROWS}}},
    ],
    ids=["dimension", "flag", "tuple", "dict"],
)
def test_a_range_must_fit_its_argument(impl: Adapter, ranges: Any) -> None:
    module = blocks.seeded(models.Rich)

    with declined("export"):
        impl.export(module, rich_call(), dynamic=ranges)


@clause("EXP-24")
def test_numbers_computed_from_a_size_vary_with_it(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Numbers, seed)
    ranges = {"x": {0: models.ROWS}}

    def make() -> Pair:
        twins = pair(impl, cache, module, models.rows_call(), dynamic=ranges)
        for rows in (2, 3, 4, 5, 12):
            assert_agrees(twins, models.rows_call(rows, seed=rows))
        return twins

    assert_agrees_or_refuses(make, [])
