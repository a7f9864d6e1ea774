"""Chapter APP: the weights of an applied module, and what is done to them after."""

from __future__ import annotations

import copy
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

import pytest
import torch

from conformance import device
from conformance.clauses._applied import (
    assert_eager_or_clear,
    roles,
    unless_refused,
)
from conformance.models import applying, blocks
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_equal_or_refused,
    pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@pytest.fixture
def uncalled(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Give a pair that was not called: what is bound by apply is bound."""
    module = blocks.seeded(applying.Kinds, seed)
    return pair(impl, cache, module, applying.kinds_call())


@pytest.fixture
def kinds(uncalled: Pair) -> Pair:
    """Give a pair that was called: what is bound at the first call is bound."""
    uncalled.applied(*applying.kinds_call().args)
    return uncalled


@pytest.fixture
def deep(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Give a pair that was called, whose child is a Kinds."""
    module = blocks.seeded(partial(applying.Deep, applying.Kinds), seed)
    twins = pair(impl, cache, module, applying.kinds_call())
    twins.applied(*applying.kinds_call().args)
    return twins


@clause("APP-04")
@pytest.mark.parametrize("name", ["index", "mask"])
def test_integer_and_boolean_buffers_stay(kinds: Pair, name: str) -> None:
    found, want = kinds.applied.get_buffer(name), kinds.eager.get_buffer(name)

    assert found.dtype == want.dtype
    assert torch.equal(found, want)


@clause("APP-04")
def test_integer_and_boolean_buffers_count(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(applying.Kinds, seed)
    here = device.chosen()
    module.index = torch.tensor([3, 3, 1, 0], device=here)
    module.mask = torch.tensor([False, False, True, False], device=here)

    twins = pair(impl, cache, module, applying.kinds_call())

    assert_agrees(twins, applying.kinds_call(1))


@clause("APP-05")
def test_parameters_buffers_and_ties_stay_what_they_are(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(applying.Kinds, seed)
    module.get_parameter("first.bias").requires_grad_()

    with torch.no_grad():
        eager, applied = pair(impl, cache, module, applying.kinds_call())
        applied(*applying.kinds_call().args)

    assert roles(applied) == roles(eager)
    assert applied.first.weight is applied.second.weight  # type: ignore[union-attr]


@clause("APP-10")
def test_the_state_dict_stays_true(kinds: Pair) -> None:
    want = kinds.eager.state_dict()

    for found in unless_refused(kinds.applied.state_dict):
        assert list(found) == list(want)
        assert all(found[name].dtype == want[name].dtype for name in want)
        assert all(torch.equal(found[name], want[name]) for name in want)


@clause("APP-10")
def test_the_state_dict_loads_into_a_fresh_module(kinds: Pair) -> None:
    call = applying.kinds_call(1)
    other = blocks.seeded(applying.Kinds, 99)
    other.get_buffer("hidden").copy_(kinds.eager.get_buffer("hidden"))

    for found in unless_refused(kinds.applied.state_dict):
        other.load_state_dict(found)
        assert torch.equal(other(*call.args), kinds.eager(*call.args))


@clause("APP-11")
@pytest.mark.parametrize("assign", [False, True])
def test_loaded_weights_count(kinds: Pair, assign: bool) -> None:  # noqa: FBT001
    other = blocks.seeded(applying.Kinds, 99).state_dict()

    def load() -> None:
        kinds.applied.load_state_dict(copy.deepcopy(other), assign=assign)

    for _ in unless_refused(load):
        kinds.eager.load_state_dict(copy.deepcopy(other), assign=assign)
        assert_equal_or_refused(kinds, applying.kinds_call(2))


IN_PLACE: Mapping[str, Callable[[torch.Tensor], object]] = {
    "first.weight": lambda weight: weight.mul_(1.5),
    "first.bias": lambda bias: bias.data.sub_(1),
    "shift": lambda shift: shift.add_(0.25),
    "hidden": lambda hidden: hidden.mul_(3),
    "index": lambda index: index.copy_(index.flip(0)),
    "mask": lambda mask: mask.logical_not_(),
}


def changed(module: nn.Module, name: str) -> None:
    """Change a tensor of a Kinds in place."""
    IN_PLACE[name](attrgetter(name)(module))


@clause("APP-12")
@pytest.mark.parametrize("name", IN_PLACE)
def test_weights_changed_in_place_count(kinds: Pair, name: str) -> None:
    for module in kinds:
        changed(module, name)

    assert_equal_or_refused(kinds, applying.kinds_call(2))


@clause("APP-12")
def test_a_fused_adapter_counts_and_so_does_its_removal(kinds: Pair) -> None:
    down, up = blocks.normal(4, 1, seed=7), blocks.normal(1, 4, seed=8)

    for sign in (1, -1):
        for module in kinds:
            module.get_parameter("first.weight").data += sign * (down @ up)

        assert_equal_or_refused(kinds, applying.kinds_call(2))


REPLACEMENTS = [
    applying.new_parameter,
    applying.untied_parameter,
    applying.no_parameter,
    applying.new_data,
    applying.new_buffer,
    applying.viewed_buffer,
    applying.buffer_made_parameter,
    applying.other_dtype,
]


@clause("APP-13")
@pytest.mark.parametrize("replace", REPLACEMENTS)
def test_replaced_weights_are_not_stale(
    kinds: Pair, replace: Callable[[nn.Module], None]
) -> None:
    for module in kinds:
        replace(module)
    # Whoever kept an address and not the tensor reads this now.
    rubbish = [torch.full((4, n), 1e30) for n in (1, 4) for _ in range(64)]

    assert_equal_or_refused(kinds, applying.kinds_call(3))
    assert rubbish


@clause("APP-13")
@pytest.mark.parametrize("replace", REPLACEMENTS)
def test_weights_replaced_before_the_first_call_are_not_stale(
    uncalled: Pair, replace: Callable[[nn.Module], None]
) -> None:
    for module in uncalled:
        replace(module)

    assert_equal_or_refused(uncalled, applying.kinds_call(3))


@clause("APP-15")
def test_the_forward_of_the_class_is_right_or_clear(kinds: Pair) -> None:
    applied, call = kinds.applied, applying.kinds_call(4)

    assert_eager_or_clear(
        kinds, lambda: type(applied).forward(applied, *call.args), call
    )


@clause("APP-15")
def test_a_deleted_forward_is_right_or_clear(kinds: Pair) -> None:
    applied, call = kinds.applied, applying.kinds_call(4)

    vars(applied).pop("forward", None)

    assert_eager_or_clear(kinds, lambda: applied(*call.args), call)


@clause("APP-16")
@pytest.mark.parametrize("name", IN_PLACE)
def test_a_changed_copy_leaves_the_original_alone(kinds: Pair, name: str) -> None:
    call, wanted = applying.kinds_call(5), copy.deepcopy(kinds.eager)

    for twin in unless_refused(lambda: copy.deepcopy(kinds.applied)):
        twin(*call.args)
        for module in (twin, wanted):
            changed(module, name)

        assert_equal_or_refused(Pair(wanted, twin), call)
        assert_agrees(kinds, call)
        assert_equal_or_refused(Pair(wanted, twin), call)


@clause("APP-16")
@pytest.mark.parametrize("name", IN_PLACE)
def test_a_changed_original_leaves_the_copy_alone(kinds: Pair, name: str) -> None:
    call, before = applying.kinds_call(5), copy.deepcopy(kinds.eager)

    for twin in unless_refused(lambda: copy.deepcopy(kinds.applied)):
        for module in kinds:
            changed(module, name)

        assert_equal_or_refused(Pair(before, twin), call)
        assert_equal_or_refused(kinds, call)


@clause("APP-16")
@pytest.mark.parametrize("name", IN_PLACE)
def test_a_copy_has_the_weights_of_its_moment(kinds: Pair, name: str) -> None:
    for module in kinds:
        changed(module, name)

    for twin in unless_refused(lambda: copy.deepcopy(kinds.applied)):
        assert_equal_or_refused(Pair(kinds.eager, twin), applying.kinds_call(5))


EXCHANGES = [
    applying.new_child,
    applying.adapted_child,
    applying.child_of_a_subclass,
    applying.parametrized_child,
    applying.patched_child,
]


@clause("APP-27")
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_an_exchanged_child_counts_or_is_refused(
    kinds: Pair, exchange: Callable[[nn.Module], None]
) -> None:
    for module in kinds:
        exchange(module)

    assert_equal_or_refused(kinds, applying.kinds_call(6))


@clause("APP-27")
def test_another_forward_of_a_childs_class_counts_or_is_refused(
    kinds: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.Linear, "forward", applying.twice)

    assert_equal_or_refused(kinds, applying.kinds_call(6))


@clause("APP-27")
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_an_exchanged_child_of_a_child_counts_or_is_refused(
    deep: Pair, exchange: Callable[[nn.Module], None]
) -> None:
    for module in deep:
        exchange(module.get_submodule("inner"))

    assert_equal_or_refused(deep, applying.kinds_call(6))
