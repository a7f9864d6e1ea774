"""Chapter PRC: what takes two GPUs to decide."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from conformance.clauses import _unpacking
from conformance.clauses._applied import unless_refused
from conformance.models import blocks
from conformance.spec import clause
from conformance.workbench import Pair, assert_equal_or_refused

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter import Adapter, Packages
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
        for (answer,) in unless_refused(partial(second.applied, hidden_states=given)):
            assert answer.device == given.device
            (wanted,) = second.eager(hidden_states=given)
            torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-4)
    assert torch.cuda.current_device() == 0


@clause("PRC-35")
@pytest.mark.usefixtures("gpu_alone")  # what others take there would be blamed on it
def test_loading_keeps_the_current_gpu(
    impl: Packages, cache: PackageCache, seed: int, tmp_path: Path
) -> None:
    package = _unpacking.saved(impl, cache, tmp_path, seed)
    torch.cuda.set_device(1)
    first, eager = (blocks.seeded(blocks.Stack, seed).to("cuda:0") for _ in range(2))
    given = blocks.hidden_states(seed=seed).to("cuda:0")
    with torch.no_grad():
        wanted = eager(hidden_states=given)
    before = _free_bytes(1)

    impl.apply(impl.load(package), first)
    with torch.no_grad():
        answer = first(hidden_states=given)

    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-4)
    assert torch.cuda.current_device() == 1
    assert before - _free_bytes(1) < 1 << 20


def _free_bytes(index: int) -> int:
    torch.cuda.synchronize()
    return int(torch.cuda.mem_get_info(index)[0])


@clause("PRC-34")
def test_arguments_on_another_gpu_are_right_or_refused(second: Pair) -> None:
    assert_equal_or_refused(second, blocks.call())
