"""Chapter REG: blocks that differ in a number that is none of Python's own."""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from torch.nn import functional

from conformance.adapter import Call
from conformance.clauses._regions import assert_block_right_or_refused
from conformance.models import blocks, regions
from conformance.spec import clause
from conformance.workbench import Pair, applied_copy

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


class Sloped(regions.Cell):
    """A Cell whose slope is in something: a number of a library's, or a dict."""

    def __init__(self, slope: Any) -> None:
        super().__init__()
        self.within = slope

    def forward(self, hidden_states: Any, mask: Any = None) -> Any:
        held = self.within[0] if isinstance(self.within, dict) else self.within
        y = functional.leaky_relu(self.proj(hidden_states), float(held))
        return hidden_states + (y if mask is None else y * mask)


def _in_a_dict(slope: float) -> dict[int, float]:
    return {0: slope}


@clause("REG-06")
@pytest.mark.parametrize("make", [np.float32, np.float64, Fraction, _in_a_dict])
@pytest.mark.parametrize("name", ["cells.0", "cells.1", "cells.2"])
def test_blocks_with_another_number_of_any_kind_are_right_or_refused(
    impl: Adapter,
    cache: PackageCache,
    seed: int,
    make: Callable[[float], Any],
    name: str,
) -> None:
    slopes = [make(slope) for slope in (0.125, 0.5, 0.125)]
    row = blocks.seeded(
        lambda: regions.Row(*map(Sloped, slopes), repeated=("Sloped",)), seed
    )
    row.config = {"slopes": repr(slopes)}  # type: ignore[assignment]  # for the cache

    def compiled() -> Pair:
        made = cache.regions(copy.deepcopy(row), regions.call())
        return Pair(row, applied_copy(impl, made, row))

    call = Call((blocks.normal(2, 6, 8, seed=3),), {})
    assert_block_right_or_refused(compiled, name, call)
