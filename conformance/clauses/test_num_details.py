"""Chapter NUM: what is no number, in dtypes of half the width."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from conformance.adapter import Call
from conformance.models import blocks
from conformance.spec import clause
from conformance.workbench import pair

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@clause("NUM-05")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nonfinite_values_of_narrow_dtypes_pass_through(
    impl: Adapter, cache: PackageCache, dtype: torch.dtype, value: float
) -> None:
    module = blocks.seeded(blocks.Stack).to(dtype)
    x = blocks.hidden_states().to(dtype)
    twins = pair(impl, cache, module, Call((), {"hidden_states": x.clone()}))
    x[0, 3, 5] = value

    with torch.no_grad():
        expected, actual = (twin(hidden_states=x.clone())[0] for twin in twins)

    assert not torch.isfinite(expected[0]).all()
    assert torch.equal(torch.isfinite(actual), torch.isfinite(expected))
    assert torch.equal(torch.isnan(actual), torch.isnan(expected))
