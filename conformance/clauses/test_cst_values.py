"""Chapter CST: numbers that hang on a module, in whatever holds them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from conformance.clauses._applied import unless_refused
from conformance.clauses._constants import applied_to, unless_made
from conformance.models import constants, kinds, values
from conformance.models.blocks import seeded
from conformance.parity import assert_parity, truth
from conformance.spec import clause
from conformance.workbench import Pair, assert_agrees, assert_equal_or_refused, pair

if TYPE_CHECKING:
    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


def _change(patch: pytest.MonkeyPatch, name: str, module: nn.Module) -> None:
    owner, key, value = values.NUMBERS[name]
    patch.setattr(owner(module), key, value)


@clause("CST-22")
@pytest.mark.parametrize("name", values.NUMBERS)
def test_other_numbers_of_every_holder_at_apply_count_or_are_refused(
    impl: Adapter,
    cache: PackageCache,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    name: str,
) -> None:
    compiled = cache.compiled(seeded(values.Valued, seed), constants.call())

    def make() -> Pair:
        change = partial(_change, monkeypatch, name)
        return applied_to(impl, compiled, lambda: seeded(values.Valued, seed), change)

    for twins in unless_made(make):
        assert_equal_or_refused(twins, constants.call(1))


@clause("CST-22")
@pytest.mark.parametrize("name", values.NUMBERS)
def test_numbers_of_every_holder_that_change_count_or_are_refused(
    impl: Adapter,
    cache: PackageCache,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    name: str,
) -> None:
    compiled = cache.compiled(seeded(values.Valued, seed), constants.call())
    twins = applied_to(impl, compiled, lambda: seeded(values.Valued, seed))
    assert_agrees(twins, constants.call())

    for module in twins:
        _change(monkeypatch, name, module)

    assert_equal_or_refused(twins, constants.call(1))


@clause("CST-22")
def test_a_number_that_forward_itself_sets_counts_or_is_refused(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    call = constants.call()

    for twins in unless_made(
        lambda: pair(impl, cache, seeded(kinds.Counted, seed), call)
    ):
        for _ in range(3):
            # Eager has its turn where there was an answer: a refusal counts nothing.
            for found in unless_refused(partial(twins.applied, *call.args)):
                exact = truth(twins.eager, call)  # of a copy, which counts for itself
                assert_parity(found, twins.eager(*call.args), exact, strides=False)
