"""Chapter PRC: what takes two GPUs to decide."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from conformance.clauses._applied import unless_refused
from conformance.models import blocks
from conformance.spec import clause
from conformance.workbench import Pair, assert_equal_or_refused

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

pytestmark = pytest.mark.usefixtures("two_gpus")


@pytest.fixture
def second(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Give a pair on the second GPU, where the first is the current one."""
    module = blocks.seeded(blocks.Stack, seed)
    compiled = cache.compiled(module, blocks.call())
    there = [blocks.seeded(blocks.Stack, seed).to("cuda:1") for _ in range(2)]
    torch.cuda.set_device(0)
    impl.apply(compiled, there[1])
    return Pair(*there)


@clause("PRC-33")
def test_the_current_gpu_stays(second: Pair, seed: int) -> None:
    given = blocks.hidden_states(seed=seed).to("cuda:1")

    with torch.no_grad():
        for answer in unless_refused(partial(second.applied, hidden_states=given)):
            assert answer.device == given.device
            wanted = second.eager(hidden_states=given)
            torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-4)
    assert torch.cuda.current_device() == 0


@clause("PRC-34")
def test_arguments_on_another_gpu_are_right_or_refused(second: Pair) -> None:
    assert_equal_or_refused(second, blocks.call())
