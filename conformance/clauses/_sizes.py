"""What the clauses of chapter DYN share: layouts, sizes, and who must be named.

The branch between "answered" and "refused by name" stands here, and not in the tests.
"""

from __future__ import annotations

import math
import re
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from conformance.adapter import Call, Refused
from conformance.models import dynamic as models
from conformance.models.blocks import normal
from conformance.workbench import assert_agrees, attempt, is_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from conformance.adapter import Range
    from conformance.workbench import Pair, Refusal

PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61)

# 24 patches each, in frames, height and width.
_SHAPES = [(2, 3, 4), (2, 4, 3), (2, 2, 6), (2, 6, 2), (4, 3, 2), (3, 2, 4)]
EQUAL_PRODUCTS = [
    {"frames": frames, "height": 2 * h, "width": 2 * w} for frames, h, w in _SHAPES
]


def assert_agrees_or_names(
    make: Callable[[], Pair], calls: Iterable[Any], names: Iterable[str]
) -> None:
    """Assert that all calls agree, or that building is refused with one of `names`."""
    __tracebackhide__ = True
    built = attempt(make)
    if isinstance(built.error, Refused):
        found = [name for name in names if is_named(str(built.error), name)]
        assert found, f"the refusal names none of {list(names)}: {built.error}"
        return
    if built.error is not None:
        raise built.error
    for call in calls:
        assert_agrees(built.value, call)


def assert_tells(refusal: Refusal, names: Iterable[str], sizes: Iterable[int]) -> None:
    """Assert that a refusal holds one of `names`, and one of `sizes` as a number."""
    __tracebackhide__ = True
    text = str(refusal)
    assert any(is_named(text, name) for name in names), f"none of {names} named: {text}"
    assert any(re.search(rf"\b{size}\b", text) for size in sizes), (
        f"none of the sizes {sizes} is told: {text}"
    )


def picks(ranges: dict[str, Range]) -> Iterator[dict[str, int]]:
    """All combinations of the sizes of some ranges."""
    sizes = [[n * r.times for n in range(r.min, r.max + 1)] for r in ranges.values()]
    for picked in product(*sizes):
        yield dict(zip(ranges, picked, strict=True))


def results(twins: Pair, calls: Iterable[Call]) -> list[Any]:
    """What the applied module gives for some calls, flat."""
    with torch.no_grad():
        found = [twins.applied(*call.args, **call.kwargs) for call in calls]
    return [pytree.tree_leaves(result) for result in found]


def bits(result: list[torch.Tensor]) -> list[Any]:
    """A result as numbers, and its sizes."""
    return [(tuple(x.shape), x.flatten().tolist()) for x in result]


def with_gaps(x: torch.Tensor) -> torch.Tensor:
    """Put `x` into a corner of a larger tensor of NaN, or of True."""
    shape = [size + 1 for size in x.shape]
    fill: float | bool = math.nan if x.is_floating_point() else True
    around = torch.full(shape, fill, dtype=x.dtype, device=x.device)
    corner = around[tuple(slice(size) for size in x.shape)]
    return corner.copy_(x)


def turned(x: torch.Tensor) -> torch.Tensor:
    """Reverse the order of the dimensions in memory."""
    reverse = list(range(x.ndim))[::-1]
    return x.permute(reverse).contiguous().permute(reverse)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Put the second dimension last in memory, as convolutions like it."""
    if x.ndim < 3:  # it is the last one
        return x
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def expanded(x: torch.Tensor) -> torch.Tensor:
    """Repeat the first entry without memory of its own."""
    return x[:1].expand(x.shape)


def in_the_middle(x: torch.Tensor) -> torch.Tensor:
    """Put `x` behind something else, at an address that no vector would choose."""
    before = torch.ones(3, dtype=x.dtype, device=x.device)
    return torch.cat([before, x.flatten(), before])[3:-3].view(x.shape)


LAYOUTS = (with_gaps, turned, channels_last, expanded, in_the_middle)


def laid_out(call: Call, how: Callable[[torch.Tensor], torch.Tensor]) -> Call:
    """Lay all tensors of a call out anew."""
    parts = pytree.tree_map_only(torch.Tensor, how, (call.args, dict(call.kwargs)))
    return Call(*parts)


def flux_call(example: Call, tokens: int, *, ids: int | None = None) -> Call:
    """Make the call of a FLUX transformer for another number of tokens.

    Args:
        example: The pipeline's own.
        tokens: Of `hidden_states`.
        ids: Of `img_ids`; as many by default.
    """
    states = example.kwargs["hidden_states"]
    drawn = normal(1, tokens, states.shape[2], seed=tokens).to(states.device)
    numbers = torch.arange(tokens if ids is None else ids, device=states.device)
    places = torch.stack([numbers * 0, numbers // 6, numbers % 6], 1)
    both = {"hidden_states": drawn, "img_ids": places.to(torch.float32)}
    return Call(example.args, {**example.kwargs, **both})


def joined_call(text: int, image: int, ids: int) -> Call:
    """Draw a call of Joined."""
    return Call((normal(text, 4), normal(image, 4, seed=1), normal(ids, 4, seed=2)), {})


def kept_call(rows: int, kept: Iterable[int]) -> Call:
    """Draw a call of Kept that keeps the rows `kept`."""
    (x,) = models.rows_call(rows, seed=rows).args
    keep = torch.zeros(rows, dtype=torch.bool, device=x.device)
    keep[list(kept)] = True
    return Call((x, keep), {})
