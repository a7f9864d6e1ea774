"""Chapter EXP: arguments, results, and what an export leaves behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance.adapter import Call, Refused
from conformance.clauses._compiles import differences, surroundings
from conformance.models import applying, blocks
from conformance.models import export as models
from conformance.parity import assert_same_form
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    built,
    pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@pytest.fixture
def rich(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Make Rich without ranges, so that core clauses can use it."""
    return pair(impl, cache, blocks.seeded(models.Rich, seed), models.rich_call())


@clause("EXP-01")
def test_positional_and_keyword_calls_are_one_call(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    x = blocks.hidden_states(seed=seed)
    by_keyword = pair(impl, cache, module, blocks.call())

    assert_agrees(by_keyword, Call((), {"hidden_states": x}))
    assert_equal_or_refused(by_keyword, Call((x,), {}))
    assert_equal_or_refused(by_keyword, Call((x, 1.0), {}))
    assert_equal_or_refused(by_keyword, Call((), {"scale": 1.0, "hidden_states": x}))


@clause("EXP-01", may_refuse=True)
def test_a_call_exported_by_position_is_answered_by_position(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    twins = pair(impl, cache, blocks.seeded(models.Output, seed), models.rows_call())
    (x,) = models.rows_call(seed=3).args

    assert_agrees(twins, Call((x,), {}))
    assert_equal_or_refused(twins, Call((), {"x": x}))


@clause("EXP-09")
@pytest.mark.parametrize("make", [models.Cached, models.Memoir])
def test_the_module_stays_usable_after_export(
    impl: Adapter, make: Callable[[], nn.Module]
) -> None:
    module, call, other = blocks.seeded(make), models.rows_call(6), models.rows_call(3)
    fresh = blocks.seeded(make)
    expected = fresh(*call.args), fresh(*other.args)
    module(*other.args)  # what it remembers now is not what export makes it look up

    for _ in range(2):
        with contextlib.suppress(Refused):  # for it writes to what is no buffer
            impl.export(module, call)
        for each, want in zip((call, other), expected, strict=True):
            found = module(*each.args)
            assert type(found) is torch.Tensor
            assert torch.equal(found, want)


@clause("EXP-10")
def test_a_failed_export_changes_nothing(impl: Adapter) -> None:
    module, call, other = (
        blocks.seeded(models.Undecided),
        models.rows_call(),
        models.rows_call(3),
    )
    expected = module(*call.args)
    module(*other.args)
    before = traces(module)

    # Who can export it after all has nothing to refuse.
    with contextlib.suppress(Refused):
        impl.export(module, call)

    assert traces(module) == before
    assert torch.equal(module(*call.args), expected)


def traces(module: nn.Module) -> dict[str, Any]:
    """List what hangs on a module and its children: what is plain by value."""

    def spell(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spell(entry) for key, entry in value.items()}
        return value if isinstance(value, (int, float, str, tuple)) else id(value)

    return {path: spell(vars(child)) for path, child in module.named_modules()}


# EXP-17 lets Rich be refused for its result, here as everywhere.
@clause("EXP-11", may_refuse="setup")
def test_plain_tensor_attributes_count(rich: Pair) -> None:
    assert_agrees(rich, models.rich_call(seed=5))


@clause("EXP-11", may_refuse="setup")
def test_plain_tensor_attributes_are_those_of_the_module(rich: Pair) -> None:
    for module in rich:
        module.table = blocks.normal(4, seed=23)

    assert_equal_or_refused(rich, models.rich_call(seed=6))


@clause("EXP-12")
def test_training_mode_is_not_baked_in(impl: Adapter, seed: int) -> None:
    module = blocks.seeded(applying.Noisy, seed)
    module.train()

    def make() -> Pair:
        twins = built(impl, module, applying.kinds_call())
        return Pair(*(twin.eval() for twin in twins))

    assert_agrees_or_refuses(make, [applying.kinds_call(n) for n in range(3)])


@clause("EXP-13")
def test_an_operator_without_a_fake_kernel_is_refused_by_name(impl: Adapter) -> None:
    module = blocks.seeded(models.Bare)

    with pytest.raises(Refused, match=r"aoti_conformance(::|\.)bare"):
        impl.export(module, models.rows_call())


@clause("EXP-14")
@pytest.mark.parametrize("make", [models.Lied, models.LiedWithin])
def test_a_lying_fake_kernel_is_found_out(
    impl: Adapter, cache: PackageCache, seed: int, make: Callable[[], nn.Module]
) -> None:
    module, call = blocks.seeded(make, seed), models.rows_call(seed=seed)

    assert_agrees_or_refuses(lambda: pair(impl, cache, module, call), [call])


@clause("EXP-16", may_refuse="setup")
def test_nested_arguments_are_taken_apart_rightly(rich: Pair) -> None:
    call = models.rich_call(seed=7)
    turned = dict(reversed(list(call.kwargs["extra"].items())))

    assert_agrees(rich, call)
    assert_agrees(rich, Call(call.args, {**call.kwargs, "extra": turned}))


@clause("EXP-16", may_refuse="setup")
def test_wrongly_nested_arguments_are_refused(rich: Pair) -> None:
    call = models.rich_call()
    first, (second,) = call.kwargs["parts"]
    shapes: list[Any] = [
        (first, second),
        [first, [second]],
        (first, [second, second]),
        (first, []),
        (first, [None]),
    ]

    for parts in shapes:
        kwargs = {**call.kwargs, "parts": parts}
        assert_equal_or_refused(rich, Call(call.args, kwargs))


@clause("EXP-17", may_refuse="setup")
def test_results_keep_their_containers(rich: Pair) -> None:
    call = models.rich_call(seed=8)

    found, expected = (
        twin(*call.args, **call.kwargs) for twin in (rich.applied, rich.eager)
    )

    assert_same_form(found, expected)
    assert list(found) == list(expected)


@clause("EXP-17")
@pytest.mark.parametrize(
    "make", [models.Output, models.Largest, models.Listed, models.Shaped]
)
def test_classes_of_results_are_kept_or_refused(
    impl: Adapter, cache: PackageCache, make: Callable[[], nn.Module]
) -> None:
    assert_right_or_not_made(impl, cache, blocks.seeded(make))


@clause("EXP-18")
@pytest.mark.parametrize("make", [models.Numbers, models.Named])
def test_python_values_come_back_as_python_values(
    impl: Adapter, cache: PackageCache, make: Callable[[], nn.Module]
) -> None:
    assert_right_or_not_made(impl, cache, blocks.seeded(make))


def assert_right_or_not_made(
    impl: Adapter, cache: PackageCache, module: nn.Module
) -> None:
    """Assert that export or compile refuses, or that the answer is eager's."""

    def make() -> Pair:
        twins = pair(impl, cache, module, models.rows_call())
        assert_agrees(twins, models.rows_call(seed=4))
        return twins

    assert_agrees_or_refuses(make, [])


@clause("EXP-21")
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_export_leaves_the_world_alone(impl: Adapter, *, grad: bool) -> None:
    module = blocks.seeded(blocks.Stack)
    impl.export(module, blocks.call())  # what is set once, at first use, is set now

    with torch.set_grad_enabled(grad):
        before, world = traces(module), surroundings()
        impl.export(module, blocks.call())

        assert differences(world, surroundings()) == []
        assert traces(module) == before
        assert torch.is_grad_enabled() is grad


@clause("EXP-22")
def test_autocast_is_not_baked_in(impl: Adapter, seed: int) -> None:
    module, call = blocks.seeded(models.Joint, seed), joint_call()
    kind = next(module.parameters()).device.type

    def make() -> Pair:
        with torch.autocast(kind, dtype=torch.bfloat16):
            exported = impl.export(blocks.seeded(models.Joint, seed), call)
        applied = blocks.seeded(models.Joint, seed)
        impl.apply(impl.compile(exported), applied)
        return Pair(module, applied)

    assert_agrees_or_refuses(make, [call])


def joint_call() -> Call:
    return Call((blocks.normal(5, 4), blocks.normal(5, 4, seed=1)), {})


@clause("EXP-23")
def test_variadic_signatures_are_right_or_refused(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Variadic, seed)

    def call(draw: int, scale: float = 2.0) -> Call:
        x, y, z = (blocks.normal(5, 4, seed=draw + n) for n in range(3))
        return Call((x, y), {"scale": scale, "shift": z})

    def make() -> Pair:
        twins = pair(impl, cache, module, call(0))
        assert_agrees(twins, call(1))
        return twins

    (x, y), named = call(0)
    others = [
        call(2),
        call(2, scale=3.0),
        Call((x,), named),
        Call((x, y, y), named),
        Call((x, y), dict(reversed(list(named.items())))),
        Call((x, y), {**named, "gain": y}),
        Call((x, y), {"scale": 2.0}),
    ]
    assert_agrees_or_refuses(make, others)
