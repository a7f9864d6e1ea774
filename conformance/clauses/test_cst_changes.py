"""Chapter CST: what becomes of constants after apply."""

from __future__ import annotations

import gc
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.clauses import _constants, _cst_fixtures
from conformance.clauses._applied import unless_refused
from conformance.clauses._constants import (
    applied_to,
    poisoned,
    shown,
    unless_made,
)
from conformance.models import constants
from conformance.models.constants import NAMED, VALUED
from conformance.spec import clause
from conformance.strategies import seeds
from conformance.workbench import (
    Pair,
    assert_agrees_or_refuses,
    assert_answers,
    assert_equal_or_refused,
    attempt,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from conformance.adapter import Adapter
    from conformance.clauses._cst_fixtures import Make

name, make = _cst_fixtures.name, _cst_fixtures.make
compiled, twins = _cst_fixtures.compiled, _cst_fixtures.twins


@clause("CST-02")
@pytest.mark.parametrize("name", VALUED)
def test_every_kind_changed_in_place_counts(twins: Pair, name: str) -> None:
    for changed in shown(twins, lambda m: constants.renew(m, name)):
        assert_equal_or_refused(changed, constants.call(1))


@clause("CST-03")
@pytest.mark.parametrize("name", VALUED)
def test_every_kind_exchanged_counts(twins: Pair, name: str) -> None:
    for changed in shown(twins, lambda m: constants.exchange(m, name)):
        assert_equal_or_refused(changed, constants.call(1))


@clause("CST-03")
def test_a_child_that_was_narrow_for_a_while_counts(twins: Pair) -> None:
    def there_and_back(module: nn.Module) -> None:
        module.get_submodule("linear").bfloat16().float()

    for changed in shown(twins, there_and_back):
        rubbish = poisoned(twins.eager)
        assert_equal_or_refused(changed, constants.call(1))
        assert rubbish


def _empty(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.data.new_empty(0)


def _to_meta(module: nn.Module) -> None:
    module.to("meta")


def _no_zeros(module: nn.Module) -> None:
    module.zeros = None  # type: ignore[assignment]


WAYS_TO_GO: dict[str, Callable[[nn.Module], None]] = {
    "emptied": _empty,
    "moved to meta": _to_meta,
    "set to None": _no_zeros,
}


@clause("CST-12")
@pytest.mark.parametrize("way", WAYS_TO_GO)
def test_weights_that_are_gone_are_an_error(twins: Pair, way: str) -> None:
    for module in twins:
        WAYS_TO_GO[way](module)

    assert_equal_or_refused(twins, constants.call(1))


@clause("CST-12")
@pytest.mark.parametrize("name", NAMED)
def test_a_weight_that_was_deleted_is_an_error(twins: Pair, name: str) -> None:
    for module in twins:
        constants.drop(module, name)

    assert_equal_or_refused(twins, constants.call(1))


@clause("CST-12")
@pytest.mark.parametrize("name", NAMED)
def test_weights_that_are_back_count(twins: Pair, name: str) -> None:
    kept = [(m, constants.owner(m, name), constants.get(m, name)) for m in twins]
    for module, _, _ in kept:
        constants.drop(module, name)
    attempt(lambda: twins.applied(*constants.call().args))
    for _, (child, key), tensor in kept:
        hang = child.register_buffer if name in constants.BUFFERS else None
        (hang or child.__setattr__)(key, tensor)

    assert_equal_or_refused(twins, constants.call(1))


@clause("CST-12")
def test_a_method_that_outlives_its_module_is_right_or_refused(
    impl: Adapter, compiled: Any, make: Make
) -> None:
    eager, applied = make(), make()
    impl.apply(compiled, applied)
    call = constants.call(1)
    applied(*call.args)
    forward = applied.forward
    del applied
    gc.collect()
    rubbish = poisoned(eager)

    for found in unless_refused(lambda: forward(*call.args)):
        assert_answers(found, eager, call)
    assert rubbish


@clause("CST-13")
def test_weights_in_one_storage_are_read_where_they_are(
    impl: Adapter, compiled: Any, make: Make
) -> None:
    assert_agrees_or_refuses(
        lambda: applied_to(impl, compiled, make, constants.flatten),
        [constants.call(), constants.call(1)],
    )


@clause("CST-14")
def test_a_change_of_one_storage_counts_in_every_weight(
    impl: Adapter, compiled: Any, make: Make
) -> None:
    eager, applied = make(), make()
    flats = [constants.flatten(module) for module in (eager, applied)]

    for _ in unless_made(lambda: impl.apply(compiled, applied)):
        applied(*constants.call().args)
        for flat in flats:
            flat.mul_(-1.5)
        assert_equal_or_refused(Pair(eager, applied), constants.call(1))


def _overlapping(module: nn.Module) -> None:
    flat = constants.others("linear.bias").repeat(2)
    module.get_parameter("zeros").data = flat[:4]
    module.get_parameter("ones").data = flat[2:6]


@clause("CST-14")
def test_a_change_counts_in_weights_that_overlap(
    impl: Adapter, compiled: Any, make: Make
) -> None:
    for twins in unless_made(lambda: applied_to(impl, compiled, make, _overlapping)):
        twins.applied(*constants.call().args)
        for changed in shown(twins, lambda m: m.get_parameter("zeros").data.add_(1)):
            assert_equal_or_refused(changed, constants.call(1))


@clause("CST-14")
def test_a_change_counts_in_weights_that_became_one(twins: Pair) -> None:
    for module in twins:
        module.zeros = module.ones
    assert_equal_or_refused(twins, constants.call(1))

    for changed in shown(twins, lambda m: m.get_parameter("ones").data.add_(1)):
        assert_equal_or_refused(changed, constants.call(1))


@clause("CST-15")
def test_weights_mapped_before_apply_count(
    impl: Adapter, compiled: Any, make: Make, seed: int, tmp_path: Path
) -> None:
    path = _constants.file_of(constants.constants(seed + 1), tmp_path)

    def mapped() -> Pair:
        pair = applied_to(
            impl,
            compiled,
            make,
            lambda m: _constants.map_from(m, path),
        )
        path.unlink()
        return pair

    assert_agrees_or_refuses(mapped, [constants.call(), constants.call(1)])


@clause("CST-15")
def test_weights_mapped_after_apply_count(
    twins: Pair, seed: int, tmp_path: Path
) -> None:
    path = _constants.file_of(constants.constants(seed + 1), tmp_path)

    for _ in unless_refused(lambda: _constants.map_from(twins.applied, path)):
        _constants.map_from(twins.eager, path)
        path.unlink()
        assert_equal_or_refused(twins, constants.call(1))


@clause("CST-24")
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(_constants.STEPS), st.sampled_from([0, 1]), seeds()),
        min_size=1,
        max_size=5,
    )
)
def test_any_sequence_of_changes_counts(
    impl: Adapter,
    compiled: Any,
    seed: int,
    steps: list[tuple[Callable[[nn.Module, int], None], int, int]],
) -> None:
    def both() -> list[Pair]:
        makes = (partial(constants.constants, seed + n) for n in range(2))
        return [applied_to(impl, compiled, each) for each in makes]

    for pairs in unless_made(both):
        _constants.assert_follow(pairs, steps)
