"""Chapter EXP: ranges that reach down to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.adapter import Range
from conformance.models import blocks
from conformance.spec import clause
from conformance.workbench import Pair, assert_agrees_or_refuses, pair

if TYPE_CHECKING:
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
