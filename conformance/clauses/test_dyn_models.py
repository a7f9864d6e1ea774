"""Chapter DYN: what modules do with their sizes, from masks to FLUX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from conformance import pipelines
from conformance.adapter import Call, Range
from conformance.clauses import _sizes
from conformance.clauses._applied import unless_refused
from conformance.models import blocks
from conformance.models import dynamic as models
from conformance.parity import assert_parity, double
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_agrees_or_refuses,
    pair,
    ran_compiled,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

LENGTHS = (3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 24, 31, 32, 33, 47, 61, 63, 64, 65)
AROUND = [2**k + more for k in range(3, 13) for more in (-1, 0, 1)]

# Tokens of FLUX at 1024 x 1024, where the published recipe captures it, and its end.
PUBLISHED = Range("hidden", 4096, 8212)


@pytest.fixture
def masked(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(models.Masked, seed)
    call = models.masked_call()
    return pair(impl, cache, module, call, dynamic=models.MASKED_RANGES)


@pytest.fixture
def sizes(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(models.Sizes, seed)
    call = models.rows_call()
    return pair(impl, cache, module, call, dynamic=models.ROWS_RANGES)


@pytest.fixture
def reduced(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(models.Reduced, seed)
    call = models.rows_call()
    return pair(impl, cache, module, call, dynamic=models.ROWS_RANGES)


@clause("DYN-13")
def test_masks_are_right_at_every_length(masked: Pair) -> None:
    for tokens in LENGTHS:
        for words in (2, 3, 7, 8, 9, 17, 19):
            assert_agrees(masked, models.masked_call(tokens, words, seed=words))


@clause("DYN-13")
def test_masks_of_torchs_own_attention_are_right_at_every_length(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Attended, seed)
    ranges = {"x": {1: models.TOKENS}, "mask": {1: models.TOKENS}}

    _sizes.assert_agrees_or_names(
        lambda: pair(impl, cache, module, models.attended_call(), dynamic=ranges),
        [models.attended_call(tokens, seed=tokens) for tokens in LENGTHS],
        ["tokens", "mask"],
    )


@clause("DYN-14")
def test_a_narrowed_range_is_refused_by_name(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Aligned, seed)
    length = Range("length", 8, 64)
    ranges = {"x": {1: length}, "mask": {1: length}}

    def make() -> Pair:
        twins = pair(impl, cache, module, models.attended_call(), dynamic=ranges)
        for tokens in (9, 12, 63):
            call = models.attended_call(tokens)
            with refuses():
                twins.applied(*call.args)
        return twins

    calls = [models.attended_call(tokens) for tokens in (8, 24, 64)]
    _sizes.assert_agrees_or_names(make, calls, ["length", "mask"])


@clause("DYN-15")
@given(rows=st.integers(models.ROWS.min, 200) | st.sampled_from(_sizes.PRIMES[1:]))
def test_numbers_made_of_sizes_follow_them(sizes: Pair, rows: int) -> None:
    assert_agrees(sizes, models.rows_call(rows, seed=rows))


@clause("DYN-16")
def test_reductions_are_right_around_powers_of_two(reduced: Pair) -> None:
    for rows in AROUND:
        assert_agrees(reduced, models.rows_call(rows, seed=rows))


@clause("DYN-17")
def test_an_example_of_the_largest_size_is_no_limit(masked: Pair) -> None:
    for words in (18, 2, 3, 11, 19):
        assert_agrees(masked, models.masked_call(words=words, seed=words))


@clause("DYN-17")
def test_an_example_of_the_smallest_size_is_no_limit(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Video, seed)
    call = models.video_call()
    video = pair(impl, cache, module, call, dynamic=models.VIDEO_RANGES)

    for frames in (3, 5, 4, 2):
        assert_agrees(video, models.video_call(frames=frames, seed=frames))


@clause("DYN-18")
def test_branches_on_two_sizes_are_right_or_refused(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Landscape, seed)
    ranges = {"x": {0: models.SIDES["height"], 1: models.SIDES["width"]}}

    def call(height: int, width: int) -> Call:
        return Call((blocks.normal(height, width, 4, seed=height),), {})

    assert_agrees_or_refuses(
        lambda: pair(impl, cache, module, call(4, 6), dynamic=ranges),
        [call(*sides) for sides in ((4, 6), (6, 4), (5, 5), (2, 9), (9, 2), (3, 2))],
    )


@clause("DYN-19")
@pytest.mark.parametrize("declared", [("text", "image", "ids"), ("image",)])
def test_sizes_that_the_module_ties_are_held_together(
    impl: Adapter, cache: PackageCache, seed: int, declared: tuple[str, ...]
) -> None:
    module = blocks.seeded(models.Joined, seed)
    ends = {"text": (2, 9), "image": (2, 9), "ids": (4, 18)}
    tables = {name: {0: Range(f"{name}_rows", *ends[name])} for name in declared}
    ranges = {**dict.fromkeys(ends), **tables}

    assert_agrees_or_refuses(
        lambda: pair(impl, cache, module, _sizes.joined_call(3, 5, 8), dynamic=ranges),
        [
            _sizes.joined_call(*rows)
            for rows in ((3, 5, 8), (3, 6, 9), (9, 9, 18), (3, 6, 8), (2, 2, 5))
        ],
    )


@clause("DYN-19")
def test_a_size_that_a_number_divides_is_held_to_it(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Framed, seed)

    def call(tokens: int, frames: int) -> Call:
        return Call((blocks.normal(tokens, 4, seed=tokens),), {"frames": frames})

    ranges = {"x": {0: Range("places", 2, 8, times=3)}, "frames": None}
    assert_agrees_or_refuses(
        lambda: pair(impl, cache, module, call(12, 3), dynamic=ranges),
        [call(*c) for c in ((12, 3), (15, 3), (24, 3), (24, 6), (12, 4), (13, 3))],
    )


@clause("DYN-20")
def test_sizes_that_depend_on_values_follow_them(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Kept, seed)
    rows = {0: Range("rows", 2, 12)}
    example = _sizes.kept_call(5, [0, 2, 4])

    assert_agrees_or_refuses(
        lambda: pair(impl, cache, module, example, dynamic={"x": rows, "keep": rows}),
        [
            _sizes.kept_call(count, kept)
            for count in (2, 5, 7, 12)
            for kept in ([], [0], [count - 1], range(count), range(0, count, 2))
        ],
    )


@clause("DYN-21")
@pytest.mark.parametrize("rows", [65535, 65536, 65537, 131072])
@pytest.mark.parametrize("make", [models.Sizes, models.Reduced])
def test_more_rows_than_a_grid_has_are_right(
    impl: Adapter,
    cache: PackageCache,
    seed: int,
    make: Callable[[], torch.nn.Module],
    rows: int,
) -> None:
    # A sum of so many float32 has roundings that the rule of NUM knows nothing of.
    module = blocks.seeded(make, seed).double()
    example, ranges = double(models.rows_call()), models.ROWS_RANGES

    for twins in unless_refused(
        lambda: pair(impl, cache, module, example, dynamic=ranges)
    ):
        assert_agrees(twins, double(models.rows_call(rows)))


@clause("DYN-21")
def test_more_elements_than_31_bits_count_are_right(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Vast, seed)
    example, ranges = Call((models.vast(),), {}), {"x": {0: models.VAST}}
    many = models.vast((1 << 25) + 1)  # 2^31 + 64 elements, of which few are touched

    for twins in unless_refused(
        lambda: pair(impl, cache, module, example, dynamic=ranges)
    ):
        expected = twins.eager(many)
        with ran_compiled(twins.applied):
            actual = twins.applied(many)
        assert_parity(actual, expected, expected)


@pytest.fixture
def example() -> tuple[torch.nn.Module, Call, Range]:
    """The FLUX transformer, its pipeline's call, and the published range, to scale."""
    case = pipelines.load("flux")
    call = case.first_call()
    tokens = call.kwargs["hidden_states"].shape[1]
    most = tokens * PUBLISHED.max // PUBLISHED.min
    return case.module, call, Range(PUBLISHED.name, tokens, most)


@pytest.fixture
def flux(
    impl: Adapter, cache: PackageCache, example: tuple[torch.nn.Module, Call, Range]
) -> Pair:
    module, call, tokens = example
    shared = {"hidden_states": {1: tokens}, "img_ids": {0: tokens}}
    none = pytree.tree_map(lambda _leaf: None, dict(call.kwargs))
    ranges = {**none, **shared}
    return pair(impl, cache, module, call, dynamic=ranges)


@clause("DYN-22", deadline_s=600)
def test_the_published_range_of_flux_holds(
    flux: Pair, example: tuple[torch.nn.Module, Call, Range]
) -> None:
    _, call, (_, least, most, _) = example

    for tokens in (least, least + 1, 53, 64, 67, 75, most - 1, most):
        assert_agrees(flux, _sizes.flux_call(call, tokens))


@clause("DYN-23", deadline_s=600)
def test_flux_refuses_other_sizes_by_name(
    flux: Pair, example: tuple[torch.nn.Module, Call, Range]
) -> None:
    _, call, (_, least, most, _) = example

    for tokens in (least - 1, most + 1, 1, 2, least // 2, 2 * most):
        other = _sizes.flux_call(call, tokens)
        with refuses() as refusal:
            flux.applied(*other.args, **other.kwargs)
        _sizes.assert_tells(refusal, ["hidden_states", "img_ids"], [tokens])


@clause("DYN-23", deadline_s=600)
def test_flux_refuses_positions_of_another_picture(
    flux: Pair, example: tuple[torch.nn.Module, Call, Range]
) -> None:
    _, call, (_, least, most, _) = example

    for tokens, ids in ((least, least + 1), (most, least), (64, 63), (64, 1)):
        torn = _sizes.flux_call(call, tokens, ids=ids)
        with refuses() as refusal:
            flux.applied(*torn.args, **torn.kwargs)
        _sizes.assert_tells(refusal, ["hidden_states", "img_ids"], [tokens, ids])
