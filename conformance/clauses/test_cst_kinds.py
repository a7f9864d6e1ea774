"""Chapter CST: constants of many elements, of another kind, and out of sight."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from conformance import device
from conformance.adapter import Call
from conformance.clauses import _cst_fixtures, _threads
from conformance.clauses._applied import unless_refused
from conformance.clauses._constants import (
    applied_to,
    assert_right_or_named,
    shown,
    unless_made,
)
from conformance.models import constants, kinds, state
from conformance.models.blocks import normal, seeded
from conformance.models.compiling import whole_numbers
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    attempt,
    declined,
    pair,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache
    from conformance.clauses._cst_fixtures import Make

name, make = _cst_fixtures.name, _cst_fixtures.make
compiled, twins = _cst_fixtures.compiled, _cst_fixtures.twins


@clause("CST-02")
@pytest.mark.parametrize("wide", ["proj.weight", "gain", "table"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.5, 0.7])
def test_one_element_of_many_counts(
    impl: Adapter, cache: PackageCache, wide: str, place: float
) -> None:
    for made in unless_made(
        lambda: pair(impl, cache, seeded(kinds.Wide), constants.call())
    ):
        assert_agrees(made, constants.call())
        for module in made:
            flat = constants.get(module, wide).data.view(-1)
            flat[int(place * flat.numel())] += 1

        assert_equal_or_refused(made, constants.call())


OTHER_KINDS: dict[str, Any] = {
    "zeros": torch.Tensor.detach,
    "ones": torch.Tensor.detach,
    "hidden": partial(nn.Parameter, requires_grad=False),
    "plain": partial(nn.Parameter, requires_grad=False),
    "inner.plain": nn.Buffer,
}


@clause("CST-03")
@pytest.mark.parametrize("other", OTHER_KINDS)
def test_a_constant_that_becomes_one_of_another_kind_counts(
    twins: Pair, other: str
) -> None:
    def change(module: nn.Module) -> None:
        child, key = constants.owner(module, other)
        delattr(child, key)
        setattr(child, key, OTHER_KINDS[other](constants.others(other)))

    for changed in shown(twins, change):
        assert_equal_or_refused(changed, constants.call(1))


@clause("CST-04")
def test_the_constants_of_a_missing_child_are_named(
    impl: Adapter, compiled: Any, make: Make
) -> None:
    module = make()
    del module.inner

    with declined("apply", "inner.plain", "inner.proj.weight"):
        impl.apply(compiled, module)


@clause("CST-04")
@pytest.mark.parametrize("lacking", ["zeros", "hidden", "plain", "linear.bias"])
def test_a_constant_that_is_none_is_named(
    impl: Adapter, compiled: Any, make: Make, lacking: str
) -> None:
    module = make()
    child, key = constants.owner(module, lacking)
    setattr(child, key, None)

    with declined("apply", lacking):
        impl.apply(compiled, module)


@clause("CST-05")
@pytest.mark.parametrize("other", [torch.float16, torch.bfloat16, torch.int32])
@pytest.mark.parametrize("kind", ["ones", "inner.proj.weight", "hidden", "plain"])
def test_a_constant_of_fewer_bits_is_named(
    impl: Adapter, compiled: Any, make: Make, kind: str, other: torch.dtype
) -> None:
    module = make()
    old = constants.get(module, kind)
    constants.put(module, kind, old.data.to(other))

    with declined("apply", kind):
        impl.apply(compiled, module)


@clause("CST-07")
@pytest.mark.parametrize("name", constants.INTEGERS)
def test_another_layout_of_integers_is_right_or_named(
    impl: Adapter, compiled: Any, make: Make, name: str
) -> None:
    def spread(module: nn.Module) -> None:
        old = constants.get(module, name)
        gaps = torch.stack([old, old.flip(0)], dim=-1)[:, 0]
        constants.put(module, name, gaps)

    assert_right_or_named(lambda: applied_to(impl, compiled, make, spread), name)


@clause("CST-12")
@pytest.mark.parametrize("gone", ["hidden", "ones", "inner.proj.weight", "plain"])
def test_a_weight_whose_memory_was_taken_is_an_error(twins: Pair, gone: str) -> None:
    tensor = constants.get(twins.applied, gone)
    kept, storage = tensor.detach().clone(), tensor.untyped_storage()
    room = storage.nbytes()

    storage.resize_(0)  # as it is done to shards; eager code ends the process, too

    with torch.no_grad(), refuses():
        twins.applied(*constants.call().args)
    storage.resize_(room)
    tensor.data.copy_(kept)
    assert_equal_or_refused(twins, constants.call(1))


@clause("CST-12")
@pytest.mark.parametrize("gone", ["hidden", "inner.proj.weight"])
def test_a_weight_without_memory_at_apply_is_an_error(
    impl: Adapter, compiled: Any, make: Make, gone: str
) -> None:
    module = make()
    constants.get(module, gone).untyped_storage().resize_(0)

    with torch.no_grad(), refuses():
        impl.apply(compiled, module)
        module(*constants.call().args)


def _scaled(impl: Adapter, cache: PackageCache, *changes: Any) -> list[Pair]:
    def make() -> Pair:
        made = cache.compiled(seeded(kinds.Scaled), constants.call())
        return applied_to(impl, made, lambda: seeded(kinds.Scaled), *changes)

    return unless_made(make)


@clause("CST-22")
@pytest.mark.parametrize("number", kinds.NUMBERS)
def test_other_numbers_in_any_company_at_apply_count_or_are_refused(
    impl: Adapter, cache: PackageCache, number: str
) -> None:
    for made in _scaled(impl, cache, kinds.NUMBERS[number]):
        assert_equal_or_refused(made, constants.call(1))


@clause("CST-22")
@pytest.mark.parametrize("number", kinds.NUMBERS)
def test_numbers_in_any_company_that_change_count_or_are_refused(
    impl: Adapter, cache: PackageCache, number: str
) -> None:
    for made in _scaled(impl, cache):
        assert attempt(lambda: made.applied(*constants.call().args)).error is None  # noqa: B023
        for changed in shown(made, kinds.NUMBERS[number]):
            assert_equal_or_refused(changed, constants.call(1))


@clause("CST-23")
@pytest.mark.parametrize("kind", ["pair", "dtype", "slot"])
@pytest.mark.parametrize("exchange", [False, True], ids=["in place", "exchanged"])
def test_tensors_out_of_sight_count_or_are_refused(
    impl: Adapter, cache: PackageCache, kind: str, *, exchange: bool
) -> None:
    def changed() -> Pair:
        module = seeded(lambda: kinds.Hidden(kind))
        made = pair(impl, cache, module, constants.call())
        made.applied(*constants.call().args)
        for each in made:
            each.box = copy.deepcopy(each.box) if exchange else each.box
            each.held().copy_(normal(constants.FEW, seed=5))  # type: ignore[operator]
        return made

    assert_agrees_or_refuses(changed, [constants.call(1)])


@clause("CST-16")
@pytest.mark.parametrize("kind", [state.Stateful, state.Counting])
def test_state_is_one_for_all_threads(
    impl: Adapter, cache: PackageCache, kind: Callable[[], nn.Module]
) -> None:
    def stateful() -> nn.Module:
        with torch.device(device.chosen()):
            return kind().eval()

    def x(times: int) -> torch.Tensor:
        numbers = whole_numbers(state.ROWS, constants.FEW) * times
        return numbers.to(device.chosen())

    def make() -> Pair:
        compiled = cache.compiled(stateful(), Call((x(1),)))
        return applied_to(impl, compiled, stateful)

    for made in unless_made(make):
        for times in (1, 2, 4, 1, 2):  # each in a thread that comes and goes
            for found in unless_refused(
                lambda: _threads.values([partial(made.applied, x(times))])[0]  # noqa: B023
            ):
                assert torch.equal(found, made.eager(x(times)))
                states = [dict(module.named_buffers()) for module in made]
                assert all(torch.equal(b, states[0][n]) for n, b in states[1].items())
