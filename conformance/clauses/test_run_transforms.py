"""RUN: calls within the transforms of functions that torch has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from conformance.clauses import _calls, _threads
from conformance.clauses._applied import unless_refused
from conformance.models import calls
from conformance.spec import clause

if TYPE_CHECKING:
    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache
    from conformance.workbench import Pair


@pytest.fixture
def many(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    return _calls.many(impl, cache, seed)


def _slope(module: nn.Module) -> torch.Tensor:
    """Derive the sum of the answers by the first argument, without `backward`."""
    call = calls.many_call()

    def total(x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = module(x, *call.args[1:], **call.kwargs)
        return answer.sum()

    return torch.func.grad(total)(call.args[0])  # type: ignore[no-any-return]


@clause("RUN-29")
@pytest.mark.parametrize("good", [0, 2])
def test_gradients_by_a_transform_are_not_lost(many: Pair, good: int) -> None:
    for number in range(good):
        _calls.made(many, calls.many_call(seed=number))

    with torch.enable_grad():
        for found in unless_refused(lambda: _slope(many.applied)):
            # Of how near slopes are NUM says nothing; lost ones are far away.
            _threads.assert_near(found, _slope(many.eager))
