"""Chapter DYN: which sizes a compiled model answers, and which it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.adapter import Call
from conformance.clauses import _sizes
from conformance.models import blocks
from conformance.models import dynamic as models
from conformance.spec import clause
from conformance.strategies import sizes, sizes_outside
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees,
    assert_equal_or_refused,
    pair,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from conformance.adapter import Adapter, Packages, Range
    from conformance.cache import PackageCache

MASKED = {"tokens": models.TOKENS, "words": models.WORDS}


@pytest.fixture
def video(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(models.Video, seed)
    call = models.video_call()
    return pair(impl, cache, module, call, dynamic=models.VIDEO_RANGES)


@pytest.fixture
def masked(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(models.Masked, seed)
    call = models.masked_call()
    return pair(impl, cache, module, call, dynamic=models.MASKED_RANGES)


def outside(ranges: dict[str, Range]) -> st.SearchStrategy[tuple[str, int]]:
    """One dimension of several, and a size that its range forbids."""
    places = [st.tuples(st.just(n), sizes_outside(dim)) for n, dim in ranges.items()]
    return st.one_of(places)


def masked_call(tokens: int = blocks.WIDTH, words: int = models.WORDS.max) -> Call:
    return models.masked_call(tokens, words)


@clause("DYN-01")
@given(
    batch=sizes(models.VIDEO["batch"]),
    frames=sizes(models.VIDEO["frames"]),
    height=sizes(models.VIDEO["height"]),
    width=sizes(models.VIDEO["width"]),
)
def test_several_ranges_vary_independently(
    video: Pair, batch: int, frames: int, height: int, width: int
) -> None:
    assert_agrees(video, models.video_call(batch, frames, height, width))


@clause("DYN-01")
def test_all_combinations_of_several_ranges_are_right(video: Pair) -> None:
    for chosen in _sizes.picks(models.VIDEO):
        assert_agrees(video, models.video_call(**chosen))


@clause("DYN-02")
def test_a_batch_of_one_is_a_batch(video: Pair) -> None:
    for batch in (1, 3, 1, 4):
        for frames in (2, 3, 5):
            assert_agrees(video, models.video_call(batch, frames, seed=frames))


@clause("DYN-03")
def test_equal_products_are_different_sizes(video: Pair) -> None:
    for seed in range(2):
        for chosen in _sizes.EQUAL_PRODUCTS:
            assert_agrees(video, models.video_call(**chosen, seed=seed))


@clause("DYN-04")
@given(found=outside(models.VIDEO))
def test_a_size_of_a_video_outside_of_its_range_is_refused(
    video: Pair, found: tuple[str, int]
) -> None:
    call = models.video_call(**dict([found]))

    with refuses():
        video.applied(*call.args, **call.kwargs)


@clause("DYN-04")
@given(found=outside(MASKED))
def test_a_size_of_a_nested_argument_outside_of_its_range_is_refused(
    masked: Pair, found: tuple[str, int]
) -> None:
    call = masked_call(**dict([found]))

    with refuses():
        masked.applied(*call.args, **call.kwargs)


@clause("DYN-04")
@pytest.mark.parametrize("name", models.VIDEO)
def test_no_frames_and_no_pixels_are_refused(video: Pair, name: str) -> None:
    call = models.video_call(**{name: 0})

    with refuses():
        video.applied(*call.args, **call.kwargs)


@clause("DYN-04")
@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("size", [0, 1])
def test_nothing_and_one_are_refused(masked: Pair, name: str, size: int) -> None:
    call = masked_call(**{name: size})

    with refuses():
        masked.applied(*call.args, **call.kwargs)


@clause("DYN-05")
@pytest.mark.parametrize(
    ("name", "size", "chosen"),
    [
        ("latents", 14, {"height": 14}),
        ("latents", 7, {"frames": 7}),
        ("timestep", 5, {"batch": 4, "times": 5}),
    ],
    ids=["height", "frames", "timestep"],
)
def test_a_refused_size_of_a_video_is_named(
    video: Pair, name: str, size: int, chosen: dict[str, Any]
) -> None:
    call = models.video_call(**chosen)

    with refuses() as refusal:
        video.applied(*call.args, **call.kwargs)

    _sizes.assert_tells(refusal, [name], [size])


@clause("DYN-05")
@pytest.mark.parametrize(
    ("name", "size", "chosen"),
    [
        ("hidden_states", 66, {"tokens": 66, "bias": (65, 65)}),
        ("text", 20, {"words": 20, "mask": 19}),
        ("mask", 21, {"mask": 21}),
        ("bias", 67, {"bias": (67, 67)}),
    ],
    ids=["states", "text", "mask", "bias"],
)
def test_a_refused_size_of_a_nested_argument_is_named(
    masked: Pair, name: str, size: int, chosen: dict[str, Any]
) -> None:
    call = models.masked_call(**chosen)

    with refuses() as refusal:
        masked.applied(*call.args, **call.kwargs)

    _sizes.assert_tells(refusal, [name], [size])


@clause("DYN-06")
@given(
    height=sizes(models.VIDEO["height"]),
    width=sizes(models.VIDEO["width"]),
    more=st.sampled_from([(1, 0), (0, 1), (1, 1), (0, -1), (-1, 0)]),
)
def test_multiples_are_kept_without_their_root(
    video: Pair, height: int, width: int, more: tuple[int, int]
) -> None:
    assert_agrees(video, models.video_call(height=height, width=width))

    odd = models.video_call(height=height + more[0], width=width + more[1])
    with refuses():
        video.applied(*odd.args, **odd.kwargs)


@clause("DYN-07")
@given(tokens=sizes(models.TOKENS), other=st.integers(1, models.TOKENS.max - 1))
def test_a_range_twice_in_one_tensor_is_one_size(
    masked: Pair, tokens: int, other: int
) -> None:
    side = other + (other >= tokens)  # any size but `tokens`

    for bias in ((tokens, side), (side, tokens)):
        call = models.masked_call(tokens, bias=bias)
        with refuses():
            masked.applied(*call.args, **call.kwargs)


@clause("DYN-08")
@pytest.mark.parametrize(("batch", "times"), [(3, 1), (1, 3), (2, 1), (4, 1), (1, 4)])
def test_a_size_of_one_is_not_stretched(video: Pair, batch: int, times: int) -> None:
    assert_equal_or_refused(video, models.video_call(batch, times=times))


@clause("DYN-09")
@pytest.mark.parametrize("channels", [1, 3, 5, 8])
def test_channels_stay_fixed_beside_ranges(video: Pair, channels: int) -> None:
    assert_equal_or_refused(video, models.video_call(3, 3, 8, 4, channels=channels))


@clause("DYN-09")
@pytest.mark.parametrize(("batch", "width"), [(1, 16), (3, 16), (2, 1), (2, 17)])
def test_batch_and_width_stay_fixed_beside_ranges(
    masked: Pair, batch: int, width: int
) -> None:
    other = models.masked_call(7, 5)
    states = blocks.normal(batch, 7, width)

    assert_equal_or_refused(masked, Call((states,), other.kwargs))


@clause("DYN-10")
@given(
    tokens=sizes(models.TOKENS) | st.sampled_from(_sizes.PRIMES),
    words=sizes(models.WORDS),
)
def test_a_range_is_not_tied_to_a_fixed_size(
    masked: Pair, tokens: int, words: int
) -> None:
    assert_agrees(masked, models.masked_call(tokens, words, seed=tokens))


@clause("DYN-11")
@pytest.mark.parametrize("how", _sizes.LAYOUTS)
def test_layouts_of_videos_are_followed_at_every_size(
    video: Pair, how: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    for chosen in ((3, 5, 8, 10), (4, 3, 10, 4), (1, 2, 12, 12)):
        call = models.video_call(*chosen)
        assert_equal_or_refused(video, _sizes.laid_out(call, how))


@clause("DYN-11")
@pytest.mark.parametrize("how", _sizes.LAYOUTS)
def test_layouts_of_nested_arguments_are_followed_at_every_size(
    masked: Pair, how: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    for chosen in ((33, 7), (5, 18), (64, 2)):
        call = models.masked_call(*chosen)
        assert_equal_or_refused(masked, _sizes.laid_out(call, how))


@clause("DYN-12")
def test_every_call_stands_alone(masked: Pair) -> None:
    chosen = [(16, 19), (65, 2), (3, 19), (33, 7), (3, 2), (64, 18)]
    calls = [models.masked_call(*sizes, seed=n) for n, sizes in enumerate(chosen)]

    there = _sizes.results(masked, calls)
    told = [_sizes.bits(result) for result in there]
    back = _sizes.results(masked, calls[::-1])[::-1]

    assert [_sizes.bits(result) for result in back] == told
    assert [_sizes.bits(result) for result in there] == told


@clause("DYN-12")
def test_what_is_called_first_is_right_too(masked: Pair) -> None:
    for chosen in ((65, 19), (3, 2), (65, 19), (4, 2)):
        assert_agrees(masked, models.masked_call(*chosen))


@clause("DYN-24")
def test_a_package_keeps_its_ranges(
    impl: Packages, cache: PackageCache, seed: int, tmp_path: Path
) -> None:
    module = blocks.seeded(models.Masked, seed)
    call = models.masked_call()
    compiled = cache.compiled(module, call, dynamic=models.MASKED_RANGES)

    impl.save(compiled, tmp_path)
    fresh = blocks.seeded(models.Masked, seed)
    twins = Pair(fresh, applied_copy(impl, impl.load(tmp_path), fresh))

    for chosen in ((3, 2), (65, 19), (64, 18), (31, 7)):
        assert_agrees(twins, models.masked_call(*chosen))
    for chosen in ((2, 2), (66, 19), (16, 1), (16, 20)):
        call = models.masked_call(*chosen)
        with refuses():
            twins.applied(*call.args, **call.kwargs)
