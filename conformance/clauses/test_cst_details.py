"""Chapter CST: changes of constants that are easily overlooked, and rare dtypes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from conformance import device
from conformance.adapter import Call
from conformance.clauses import _cst_fixtures
from conformance.clauses._constants import (
    applied_to,
    assert_same_states,
    shown,
    unless_made,
)
from conformance.models import constants, state
from conformance.models.blocks import seeded
from conformance.models.compiling import whole_numbers
from conformance.spec import clause
from conformance.workbench import Pair, assert_agrees, assert_equal_or_refused, attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

name, make = _cst_fixtures.name, _cst_fixtures.make
compiled, twins = _cst_fixtures.compiled, _cst_fixtures.twins

WIDE = [name for name in constants.VALUED if name != "factor"]


def _midst(module: nn.Module, name: str) -> None:
    """Change two elements: the sum of all, the first and the last are as before."""
    data = constants.get(module, name).data
    if data.is_floating_point():
        data[1] += 1
        data[2] -= 1
    else:
        data[[1, 2]] = data[[2, 1]]


@clause("CST-02")
@pytest.mark.parametrize("name", WIDE)
def test_a_change_in_the_midst_of_a_constant_counts(twins: Pair, name: str) -> None:
    for changed in shown(twins, lambda m: _midst(m, name)):
        assert_equal_or_refused(changed, constants.call())


def _part(module: nn.Module, name: str) -> None:
    """Put a tensor of its own in the place of one of two that are tied."""
    child, key = constants.owner(module, name)
    other = nn.Parameter(constants.others(name), requires_grad=False)
    setattr(child, key, other)


@clause("CST-03")
@pytest.mark.parametrize("name", constants.TIED)
def test_tied_weights_that_part_count(twins: Pair, name: str) -> None:
    for changed in shown(twins, lambda m: _part(m, name)):
        assert_equal_or_refused(changed, constants.call(1))


@clause("CST-01")
@pytest.mark.parametrize("name", constants.TIED)
def test_tied_weights_that_are_two_at_apply_count(
    impl: Adapter, compiled: Any, make: Callable[[], nn.Module], name: str
) -> None:
    def part(module: nn.Module) -> None:
        _part(module, name)

    for twins in unless_made(lambda: applied_to(impl, compiled, make, part)):
        assert_equal_or_refused(twins, constants.call())
        assert_equal_or_refused(twins, constants.call(1))


def _renewed(module: nn.Module, name: str) -> None:
    getattr(module, name).copy_(state.rare(name, seed=7))


def _exchanged(module: nn.Module, name: str) -> None:
    old = getattr(module, name)
    setattr(module, name, state.rare(name, seed=7))
    old.zero_()


def _rare() -> nn.Module:
    return seeded(state.Rare)


@clause("CST-01")
@pytest.mark.parametrize("name", state.RARE)
def test_constants_of_rare_dtypes_are_the_modules(
    impl: Adapter, cache: PackageCache, name: str
) -> None:
    def make() -> Pair:
        rare = cache.compiled(_rare(), constants.call())
        return applied_to(impl, rare, _rare, lambda m: _renewed(m, name))

    for twins in unless_made(make):
        assert_equal_or_refused(twins, constants.call(1))


@clause("CST-02")
@pytest.mark.parametrize("name", state.RARE)
@pytest.mark.parametrize("change", [_renewed, _exchanged])
def test_constants_of_rare_dtypes_that_change_count(
    impl: Adapter,
    cache: PackageCache,
    name: str,
    change: Callable[[nn.Module, str], None],
) -> None:
    def make() -> Pair:
        rare = cache.compiled(_rare(), constants.call())
        return applied_to(impl, rare, _rare)

    for twins in unless_made(make):
        assert_agrees(twins, constants.call())
        for module in twins:
            change(module, name)
        assert_equal_or_refused(twins, constants.call(1))


def _x(times: float) -> Call:
    x = whole_numbers(state.ROWS, constants.FEW).to(device.chosen())
    return Call((x * times,), {})


def _stateful() -> nn.Module:
    with torch.device(device.chosen()):
        return state.Stateful().eval()


@pytest.fixture
def counters(impl: Adapter, cache: PackageCache) -> list[Pair]:
    """Give a Stateful and its twin, or nothing where that is refused."""

    def make() -> Pair:
        return applied_to(impl, cache.compiled(_stateful(), _x(1)), _stateful)

    return unless_made(make)


@clause("CST-16")
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])
def test_state_is_kept_in_every_mode(counters: list[Pair], mode: Any) -> None:
    for twins in counters:
        assert_same_states(twins, [_x(1)])
        with mode():
            for module in twins:
                module(*_x(2).args)
        assert_same_states(twins, [_x(4), _x(1)])


@clause("RUN-36")
def test_a_refused_call_leaves_state_alone(counters: list[Pair]) -> None:
    for twins in counters:
        assert_same_states(twins, [_x(1)])
        for bad in ({"more": 1}, {"x": _x(2).args[0]}):
            assert attempt(partial(twins.applied, *_x(2).args, **bad)).error is not None
        assert_same_states(twins, [_x(4)])
