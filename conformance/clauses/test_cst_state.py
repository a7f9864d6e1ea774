"""Chapter CST: tensors that a graph writes to, returns, or keeps out of sight."""

from __future__ import annotations

import copy
import gc
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from conformance import device
from conformance.adapter import Call
from conformance.clauses._applied import unless_refused
from conformance.clauses._constants import (
    applied_to,
    assert_same_notes,
    assert_same_on_own_memory,
    assert_same_states,
    by_name,
    by_place,
    poisoned,
    unless_made,
)
from conformance.models import constants, state
from conformance.models.blocks import normal, seeded
from conformance.models.compiling import whole_numbers
from conformance.parity import assert_parity, truth
from conformance.spec import clause
from conformance.workbench import Pair, assert_agrees_or_refuses, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


def _numbers(*shape: int) -> torch.Tensor:
    return whole_numbers(*shape).to(device.chosen())


def _x(times: float = 1) -> Call:
    return Call((_numbers(state.ROWS, constants.FEW) * times,), {})


def _made(kind: Callable[[], nn.Module]) -> nn.Module:
    with torch.device(device.chosen()):  # moving a module would part what is tied
        return kind().eval()


def _twins(
    impl: Adapter, cache: PackageCache, kind: Callable[[], nn.Module], count: int = 1
) -> list[Pair]:
    """Apply one compiled model to `count` modules; give none where that is refused."""

    def make() -> list[Pair]:
        compiled = cache.compiled(_made(kind), _x())
        return [applied_to(impl, compiled, lambda: _made(kind)) for _ in range(count)]

    return [twins for found in unless_made(make) for twins in found]


@clause("CST-16")
@pytest.mark.parametrize("kind", [state.Stateful, state.Counting])
def test_state_of_every_kind_is_kept(
    impl: Adapter, cache: PackageCache, kind: Callable[[], nn.Module]
) -> None:
    for twins in _twins(impl, cache, kind):
        assert_same_states(twins, [_x(n) for n in (1, 2, 4, 1, 2)])


HELD = [
    (state.Stateful, ("mean", "wide")),
    (state.Counting, ("calls", "flag", "mean", "ring", "wide")),
]


@clause("CST-16")
@pytest.mark.parametrize(("kind", "names"), HELD)
def test_state_shows_in_the_tensors_that_others_hold(
    impl: Adapter,
    cache: PackageCache,
    kind: Callable[[], nn.Module],
    names: tuple[str, ...],
) -> None:
    for twins in _twins(impl, cache, kind):
        held = {name: twins.applied.get_buffer(name) for name in names}

        assert_same_states(twins, [_x(1), _x(2)])

        now = {name: twins.applied.get_buffer(name) for name in names}
        assert [n for n in names if not torch.equal(held[n], now[n])] == []


@clause("CST-17")
def test_each_module_has_its_own_state(impl: Adapter, cache: PackageCache) -> None:
    pairs = _twins(impl, cache, state.Stateful, count=2)

    for which, times in [(0, 1), (1, 2), (1, 4), (0, 2), (1, 1), (0, 4)]:
        for twins in pairs[which : which + 1]:
            assert_same_states(twins, [_x(times)])


def _reset(module: nn.Module) -> None:
    for buffer in module.buffers():
        buffer.zero_()


def _load(module: nn.Module) -> None:
    module.load_state_dict(_made(state.Stateful).state_dict())


def _exchange(module: nn.Module) -> None:
    old = module.get_buffer("mean")
    module.mean = _numbers(constants.FEW)
    old.fill_(99)


@clause("CST-18")
@pytest.mark.parametrize("change", [_reset, _load, _exchange])
def test_state_that_is_set_between_calls_counts(
    impl: Adapter, cache: PackageCache, change: Callable[[nn.Module], None]
) -> None:
    for twins in _twins(impl, cache, state.Stateful):
        assert_same_states(twins, [_x(1), _x(2)])
        for module in twins:
            change(module)
        assert_same_states(twins, [_x(4), _x(1)])


def _one_tensor(module: nn.Module) -> None:
    module.base = module.total


def _overlap(module: nn.Module) -> None:
    flat = _numbers(6)
    module.total, module.base = flat[:4], flat[2:]


@clause("CST-19")
@pytest.mark.parametrize("share", [_one_tensor, _overlap])
@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
def test_a_written_buffer_that_is_another_one_too_is_right_or_refused(
    impl: Adapter,
    cache: PackageCache,
    share: Callable[[nn.Module], None],
    early: bool,  # noqa: FBT001
) -> None:
    changes = [share][:early]

    def make() -> Pair:
        compiled = cache.compiled(_made(state.Sharing), _x())
        return applied_to(impl, compiled, lambda: _made(state.Sharing), *changes)

    for twins in unless_made(make):
        for module in twins:
            share(module)
        assert_same_states(twins, [_x(1), _x(2), _x(4)])


def _whole(module: nn.Module) -> torch.Tensor:
    memory = _numbers(state.ROWS, constants.FEW)
    module.total = memory[1]
    return memory


def _apart(module: nn.Module) -> torch.Tensor:
    memory = _numbers(constants.FEW, state.ROWS).t()
    module.total = memory.t().reshape(-1)[:4]
    return memory


@clause("CST-19")
@pytest.mark.parametrize("arrange", [_whole, _apart])
@pytest.mark.parametrize("give", [by_place, by_name])
def test_an_argument_that_is_a_written_buffer_is_right_or_refused(
    impl: Adapter,
    cache: PackageCache,
    give: Callable[..., torch.Tensor],
    arrange: Callable[[nn.Module], torch.Tensor],
) -> None:
    for twins in _twins(impl, cache, state.Sharing):
        assert_same_states(twins, [_x(1)])

        assert_same_on_own_memory(twins, arrange, give)


@clause("CST-20")
@pytest.mark.parametrize("kind", [state.Noting, state.Learning, state.Doubly])
def test_state_outside_of_buffers_is_kept_or_refused(
    impl: Adapter, cache: PackageCache, kind: Callable[[], nn.Module]
) -> None:
    module = _made(kind)

    assert_same_notes(lambda: pair(impl, cache, module, _x()), *_x().args)


def _of_own(module: nn.Module) -> list[torch.Tensor]:
    assert isinstance(module, state.Returning)
    linear = module.proj
    tensors = linear.weight, linear.bias[1:], module.table, module.plain
    return [tensor.detach().clone() for tensor in tensors]


@clause("CST-21")
def test_returned_constants_have_their_present_values(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    for twins in unless_made(
        lambda: pair(impl, cache, seeded(state.Returning, seed), constants.call())
    ):
        x = constants.call(1).args
        twins.applied(*x)
        for module in twins:
            for name in ("proj.weight", "proj.bias", "table", "plain"):
                constants.get(module, name).data.mul_(2)

        for found in unless_refused(partial(twins.applied, *x)):
            exact = truth(twins.eager, constants.call(1))
            assert_parity(found[0], twins.eager(*x)[0], exact[0])
            assert [t.tolist() for t in found[1:]] == [
                t.tolist() for t in _of_own(twins.eager)
            ]


@clause("CST-21")
def test_returned_constants_outlive_the_module(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    eager = seeded(state.Returning, seed)
    want = _of_own(eager)
    made = unless_made(lambda: pair(impl, cache, eager, constants.call()))
    found = [
        answer
        for twins in made
        for answer in unless_refused(partial(twins.applied, *constants.call().args))
    ]

    made.clear()
    gc.collect()
    rubbish = poisoned(eager)

    assert all(
        torch.equal(a, b)
        for answer in found
        for a, b in zip(answer[1:], want, strict=True)
    )
    assert rubbish


@clause("CST-23")
@pytest.mark.parametrize("kind", ["list", "dict", "nested", "object"])
def test_tensors_in_containers_count_or_are_refused(
    impl: Adapter, cache: PackageCache, seed: int, kind: str
) -> None:
    def changed() -> Pair:
        twins = pair(
            impl, cache, seeded(lambda: state.Boxed(kind), seed), constants.call()
        )
        twins.applied(*constants.call().args)
        for module in twins:
            module.held().copy_(normal(constants.FEW, seed=5))  # type: ignore[operator]
        return twins

    assert_agrees_or_refuses(changed, [constants.call(1)])


@clause("CST-23")
@pytest.mark.parametrize("kind", ["list", "dict", "nested", "object"])
def test_an_exchanged_container_counts_or_is_refused(
    impl: Adapter, cache: PackageCache, seed: int, kind: str
) -> None:
    def exchanged() -> Pair:
        twins = pair(
            impl, cache, seeded(lambda: state.Boxed(kind), seed), constants.call()
        )
        twins.applied(*constants.call().args)
        for module in twins:
            module.boxes = copy.deepcopy(module.boxes)
            module.held().copy_(normal(constants.FEW, seed=5))  # type: ignore[operator]
        return twins

    assert_agrees_or_refuses(exchanged, [constants.call(1)])
