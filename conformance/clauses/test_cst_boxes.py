"""CST: tensors in containers that are moved, or made otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils import _pytree as pytree

from conformance.models import constants, state
from conformance.models.blocks import normal, seeded
from conformance.spec import clause
from conformance.workbench import Pair, applied_copy, assert_agrees_or_refuses, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@clause("CST-23")
@pytest.mark.parametrize("kind", ["list", "dict", "nested", "object"])
def test_tensors_in_containers_with_other_memory_count_or_are_refused(
    impl: Adapter, cache: PackageCache, seed: int, kind: str
) -> None:
    def moved() -> Pair:
        module = seeded(lambda: state.Boxed(kind), seed)
        twins = pair(impl, cache, module, constants.call())
        twins.applied(*constants.call().args)
        for twin in twins:
            twin.held().data = normal(constants.FEW, seed=5)  # type: ignore[operator]
        return twins

    assert_agrees_or_refuses(moved, [constants.call(1)])


MISFITS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "another dtype": torch.Tensor.double,
    "one element": lambda tensor: tensor[:1].clone(),
    "two rows": lambda tensor: tensor.repeat(2, 1),
    "gaps": lambda tensor: tensor.repeat_interleave(2)[::2],
}


@clause("CST-23")
@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.parametrize("kind", ["list", "dict", "nested", "object"])
def test_tensors_in_containers_that_do_not_fit_are_right_or_refused(
    impl: Adapter, cache: PackageCache, seed: int, kind: str, misfit: str
) -> None:
    def other() -> nn.Module:
        module: Any = seeded(lambda: state.Boxed(kind), seed)
        made = MISFITS[misfit](module.held())
        if isinstance(module.boxes, state.Box):
            module.boxes = state.Box(made)
        else:
            module.boxes = pytree.tree_map(lambda _: made, module.boxes)
        return module  # type: ignore[no-any-return]

    def applied() -> Pair:
        module = seeded(lambda: state.Boxed(kind), seed)
        compiled = cache.compiled(module, constants.call())
        return Pair(other(), applied_copy(impl, compiled, other()))

    assert_agrees_or_refuses(applied, [constants.call(1)])


@clause("CST-23")
@pytest.mark.parametrize("kind", ["list", "dict", "nested"])
def test_containers_that_are_emptied_are_refused(
    impl: Adapter, cache: PackageCache, seed: int, kind: str
) -> None:
    def emptied() -> Pair:
        module = seeded(lambda: state.Boxed(kind), seed)
        twins = pair(impl, cache, module, constants.call())
        twins.applied(*constants.call().args)
        for twin in twins:
            twin.boxes.clear()  # type: ignore[operator, union-attr]
        return twins

    assert_agrees_or_refuses(emptied, [constants.call(1)])
