"""Chapter QNT: every quantised layer counts, and not the first alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from conformance import tensors
from conformance.models import quantised
from conformance.models.quantised import Mlp
from conformance.spec import clause
from conformance.workbench import assert_agrees, assert_equal_or_refused, pair

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@clause("QNT-06")
@pytest.mark.parametrize("layer", quantised.EVEN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e4m3fn], ids=str)
def test_the_last_scale_and_value_of_every_layer_count(
    impl: Adapter, cache: PackageCache, layer: str, dtype: torch.dtype, seed: int
) -> None:
    twins = pair(impl, cache, quantised.quantised(Mlp, seed), quantised.call())
    assert_agrees(twins, quantised.call())

    for module in twins:
        weight = module.get_parameter(f"{layer}.weight")
        held = next(t for _, t in tensors.inside(weight) if t.dtype is dtype)
        rows = held if held.ndim else held[None]
        rows[-1:] = (rows[-1:].float() * -4).to(dtype)

    assert_equal_or_refused(twins, quantised.call(seed=1))
