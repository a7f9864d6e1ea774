"""Chapter VAR: one call of several that cannot be compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.clauses import _variants
from conformance.clauses._regions import state
from conformance.models import variants
from conformance.spec import clause
from conformance.workbench import refuses

if TYPE_CHECKING:
    from conformance.adapter_graphs import Variants


@clause("VAR-16")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_failed_build_of_several_is_a_refusal(
    impl: Variants, seed: int, place: int
) -> None:
    module = _variants.mixed(seed)
    calls = [variants.call(), variants.double_call()]
    calls.insert(place, variants.masked_call(width=7))
    before = state(module)

    with refuses():
        impl.compile_variants(module, calls)

    assert state(module) == before
