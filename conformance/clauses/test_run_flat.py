"""RUN: containers that hold nothing but tensors, called again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.adapter import Call
from conformance.clauses import _calls
from conformance.models import blocks, flat
from conformance.spec import clause
from conformance.workbench import assert_equal_or_refused, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

    Tensors = tuple[torch.Tensor, ...]

MISPLACED: dict[str, Callable[[Tensors], object]] = {
    "a list": list,
    "one less": lambda both: both[:1],
    "one more": lambda both: (*both, both[0]),
    "nothing": lambda _: (),
    "a longer list": lambda both: [*both, both[0]],
    "the first alone": lambda both: both[0],
    "a tuple within": lambda both: (both, both[1]),
    "None": lambda both: (both[0], None),
}


@clause("RUN-38")
@pytest.mark.parametrize("name", MISPLACED)
def test_good_calls_prove_nothing_about_the_next_container(
    impl: Adapter, cache: PackageCache, seed: int, name: str
) -> None:
    module = blocks.seeded(flat.Both, seed)
    twins = pair(impl, cache, module, flat.both_call())
    for number in range(3):
        _calls.made(twins, flat.both_call(seed=number))
    call = flat.both_call(seed=7)

    bad = {**call.kwargs, "both": MISPLACED[name](call.kwargs["both"])}

    assert_equal_or_refused(twins, Call(call.args, bad))
    assert_equal_or_refused(twins, call)
