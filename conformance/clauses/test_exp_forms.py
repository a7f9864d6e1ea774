"""Chapter EXP: arguments, results, and what an export leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance.adapter import Call, Refused
from conformance.models import applying, blocks
from conformance.models import export as models
from conformance.parity import assert_same_form
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    attempt,
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
    """Rich without ranges, so that core clauses can use it."""
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


@clause("EXP-01")
def test_a_call_exported_by_position_is_answered_by_position(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    twins = pair(impl, cache, blocks.seeded(models.Output, seed), models.rows_call())
    (x,) = models.rows_call(seed=3).args

    assert_agrees(twins, Call((x,), {}))
    assert_equal_or_refused(twins, Call((), {"x": x}))


@clause("EXP-09")
def test_the_module_stays_usable_after_export(impl: Adapter) -> None:
    module, call = blocks.seeded(models.Cached), models.rows_call(6)
    models.angles.cache_clear()

    impl.export(module, call)
    after = module(*call.args)
    models.angles.cache_clear()
    impl.export(module, models.rows_call(6, seed=1))

    assert torch.equal(after, module(*call.args))
    assert type(after) is torch.Tensor


@clause("EXP-10")
def test_a_failed_export_changes_nothing(impl: Adapter) -> None:
    module, call = blocks.seeded(models.Undecided), models.rows_call()
    before, expected = traces(module), module(*call.args)

    with pytest.raises(Refused):
        impl.export(module, call)

    assert traces(module) == before
    assert torch.equal(module(*call.args), expected)


def traces(module: nn.Module) -> dict[str, Any]:
    """List what hangs on a module: tables by content, the rest by identity."""
    tables = {k: dict(v) for k, v in vars(module).items() if isinstance(v, dict)}
    return {**{k: id(v) for k, v in vars(module).items() if k not in tables}, **tables}


@clause("EXP-11")
def test_plain_tensor_attributes_count(rich: Pair) -> None:
    assert_agrees(rich, models.rich_call(seed=5))


@clause("EXP-11")
def test_plain_tensor_attributes_are_those_of_the_module(rich: Pair) -> None:
    for module in rich:
        module.table = blocks.normal(4, seed=23)  # type: ignore[assignment]

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

    with pytest.raises(Refused, match="bare"):
        impl.export(module, models.rows_call())


@clause("EXP-14")
def test_a_lying_fake_kernel_is_found_out(impl: Adapter, seed: int) -> None:
    module, call = blocks.seeded(models.Lied, seed), models.rows_call(seed=seed)

    def make() -> Pair:
        return built(impl, module, call)

    assert_agrees_or_refuses(make, [call])


@clause("EXP-15")
def test_flags_and_scalars_hold_beside_ranges(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(models.Rich, seed)
    how = {"flag": True, "n": 3, "mode": "minus"}
    ranges = {"x": {0: models.ROWS}}
    twins = pair(impl, cache, module, models.rich_call(**how), dynamic=ranges)

    for rows in (2, 3, 7, 12):
        assert_agrees(twins, models.rich_call(rows, **how))
    for other in (
        {"flag": False},
        {"flag": 1},
        {"n": 2},
        {"n": 3.0},
        {"mode": "plus"},
        {"n": None},
    ):
        assert_equal_or_refused(twins, models.rich_call(7, **{**how, **other}))


@clause("EXP-16")
def test_nested_arguments_are_taken_apart_rightly(rich: Pair) -> None:
    call = models.rich_call(seed=7)
    turned = dict(reversed(call.kwargs["extra"].items()))

    assert_agrees(rich, call)
    assert_agrees(rich, Call(call.args, {**call.kwargs, "extra": turned}))


@clause("EXP-16")
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


@clause("EXP-17")
def test_results_keep_their_containers(rich: Pair) -> None:
    call = models.rich_call(seed=8)

    found = rich.applied(*call.args, **call.kwargs)

    assert_same_form(found["pair"], rich.eager(*call.args, **call.kwargs)["pair"])
    assert list(found) == list(rich.eager(*call.args, **call.kwargs))


@clause("EXP-17")
@pytest.mark.parametrize("make", [models.Output, models.Largest])
def test_classes_of_results_are_kept_or_refused(
    impl: Adapter, cache: PackageCache, make: Callable[[], nn.Module]
) -> None:
    module, call = blocks.seeded(make), models.rows_call()

    built_or_not = attempt(lambda: pair(impl, cache, module, call))

    assert isinstance(built_or_not.error, (Refused, type(None)))
    for twins in [built_or_not.value] if built_or_not.error is None else []:
        assert_agrees(twins, models.rows_call(seed=4))


@clause("EXP-18")
def test_python_values_come_back_as_python_values(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module, call = blocks.seeded(models.Rich, seed), models.rich_call(seed=9)
    expected = module(*call.args, **call.kwargs)

    ended = attempt(lambda: pair(impl, cache, module, models.rich_call()))

    assert isinstance(ended.error, (Refused, type(None)))
    for twins in [ended.value] if ended.error is None else []:
        found = twins.applied(*call.args, **call.kwargs)
        for name in ("rows", "twice", "flag", "share", "name", "none"):
            assert type(found[name]) is type(expected[name])
            assert found[name] == expected[name]


@clause("EXP-21")
def test_export_leaves_the_world_alone(impl: Adapter) -> None:
    module = blocks.seeded(blocks.Stack)
    before = traces(module)
    state = torch.get_rng_state()

    with torch.enable_grad():
        impl.export(module, blocks.call())
        grad = torch.is_grad_enabled()

    assert grad
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), state)
    assert traces(module) == before


@clause("EXP-22")
def test_autocast_is_not_baked_in(impl: Adapter, seed: int) -> None:
    module, call = blocks.seeded(models.Joint, seed), autocast_call()

    def make() -> Pair:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            exported = impl.export(blocks.seeded(models.Joint, seed), call)
        applied = blocks.seeded(models.Joint, seed)
        impl.apply(impl.compile(exported), applied)
        return Pair(module, applied)

    assert_agrees_or_refuses(make, [call])


def autocast_call() -> Call:
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

    fewer = Call(call(0).args[:1], call(0).kwargs)
    assert_agrees_or_refuses(make, [call(2), call(2, scale=3.0), fewer])
