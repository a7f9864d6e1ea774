"""Chapter RUN: values that Python takes for one another, the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conformance.clauses import _calls
from conformance.models import blocks, calls
from conformance.spec import clause
from conformance.workbench import assert_equal_or_refused, pair

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@clause("RUN-06", may_refuse=True)
@pytest.mark.parametrize("other", [True, 1.0], ids=repr)
def test_a_value_of_a_narrower_type_is_noticed(
    impl: Adapter, cache: PackageCache, seed: int, other: Any
) -> None:
    call = calls.numbers_call(strict=1)
    twins = pair(impl, cache, blocks.seeded(calls.Chosen, seed), call)
    _calls.made(twins, call)

    assert_equal_or_refused(twins, calls.numbers_call(strict=other))
