"""Chapter EXP: a module of which one part is in training mode."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from conformance.models import applying, blocks
from conformance.spec import clause
from conformance.workbench import Pair, assert_agrees_or_refuses

if TYPE_CHECKING:
    from conformance.adapter import Adapter


@clause("EXP-12")
@pytest.mark.usefixtures("cache")  # it keeps the compiler's headers
@pytest.mark.parametrize("part", ["inner.drop", "inner"])
def test_training_mode_of_a_part_is_not_baked_in(
    impl: Adapter, seed: int, part: str
) -> None:
    deep = partial(applying.Deep, applying.Noisy)
    eager, applied, learning = (blocks.seeded(deep, seed) for _ in range(3))
    learning.get_submodule(part).train()

    def make() -> Pair:
        exported = impl.export(learning, applying.kinds_call())
        impl.apply(impl.compile(exported), applied)
        return Pair(eager, applied)

    assert_agrees_or_refuses(make, [applying.kinds_call(n) for n in range(3)])
