"""Chapter DYN: sizes are checked at every call, and not at the first of its form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conformance.adapter import Call
from conformance.clauses import _sizes
from conformance.models import blocks
from conformance.models import dynamic as models
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_equal_or_refused,
    pair,
    refuses,
)

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

# Sizes on both sides of every range, each alone with the others as in the example.
VIDEO = [
    {name: size}
    for name, dim in models.VIDEO.items()
    for size in (dim.times * (dim.min - 1), dim.times * (dim.max + 1))
]
MASKED = [
    {name: size}
    for name, dim in {"tokens": models.TOKENS, "words": models.WORDS}.items()
    for size in (dim.min - 1, dim.max + 1)
]


def _name(chosen: dict[str, Any]) -> str:
    return ", ".join(f"{name}={size}" for name, size in chosen.items())


@pytest.fixture
def video(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Make a Video that has answered two calls."""
    module, call = blocks.seeded(models.Video, seed), models.video_call()
    twins = pair(impl, cache, module, call, dynamic=models.VIDEO_RANGES)
    assert_agrees(twins, call)
    assert_agrees(twins, models.video_call(3, 3, 8, 4))
    return twins


@pytest.fixture
def masked(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Make a Masked that has answered two calls."""
    module, call = blocks.seeded(models.Masked, seed), models.masked_call()
    twins = pair(impl, cache, module, call, dynamic=models.MASKED_RANGES)
    assert_agrees(twins, call)
    assert_agrees(twins, models.masked_call(7, 5))
    return twins


@clause("DYN-04")
@pytest.mark.parametrize("chosen", VIDEO, ids=_name)
def test_a_size_next_to_its_range_is_refused_after_good_calls(
    video: Pair, chosen: dict[str, int]
) -> None:
    call = models.video_call(**chosen)

    with refuses():
        video.applied(*call.args, **call.kwargs)


@clause("DYN-04")
@pytest.mark.parametrize("chosen", MASKED, ids=_name)
def test_a_nested_size_next_to_its_range_is_refused_after_good_calls(
    masked: Pair, chosen: dict[str, Any]
) -> None:
    call = models.masked_call(**chosen)

    with refuses():
        masked.applied(*call.args, **call.kwargs)


@clause("DYN-05")
def test_a_size_that_is_refused_after_good_calls_is_named(masked: Pair) -> None:
    call = models.masked_call(words=20, mask=19)

    with refuses() as refusal:
        masked.applied(*call.args, **call.kwargs)

    _sizes.assert_tells(refusal, ["text"], [20])


@clause("DYN-07")
@pytest.mark.parametrize("bias", [(7, 9), (9, 7), (7, 1), (1, 7)])
def test_a_range_twice_in_one_tensor_is_one_size_after_good_calls(
    masked: Pair, bias: tuple[int, int]
) -> None:
    call = models.masked_call(7, bias=bias)

    with refuses():
        masked.applied(*call.args, **call.kwargs)


@clause("DYN-08")
@pytest.mark.parametrize(("batch", "times"), [(3, 1), (1, 3), (2, 1), (4, 1), (1, 4)])
def test_a_size_of_one_is_not_stretched_after_good_calls(
    video: Pair, batch: int, times: int
) -> None:
    assert_equal_or_refused(video, models.video_call(batch, times=times))


@clause("DYN-09")
@pytest.mark.parametrize("channels", [1, 3, 5, 8])
def test_channels_stay_fixed_after_good_calls(video: Pair, channels: int) -> None:
    assert_equal_or_refused(video, models.video_call(3, 3, 8, 4, channels=channels))


@clause("DYN-09")
@pytest.mark.parametrize(("batch", "width"), [(1, 16), (3, 16), (2, 1), (2, 17)])
def test_batch_and_width_stay_fixed_after_good_calls(
    masked: Pair, batch: int, width: int
) -> None:
    other = models.masked_call(7, 5)
    states = blocks.normal(batch, 7, width)

    assert_equal_or_refused(masked, Call((states,), other.kwargs))


@clause("DYN-10")
def test_every_size_of_either_range_is_right(masked: Pair) -> None:
    for tokens in range(models.TOKENS.min, models.TOKENS.max + 1):
        words = models.WORDS.min + tokens % (models.WORDS.max - models.WORDS.min + 1)
        assert_agrees(masked, models.masked_call(tokens, words))
