"""Chapter APP: what an applied module answers, and with which weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from torch import nn

from conformance.adapter import Call, Refused
from conformance.models import applying, blocks
from conformance.spec import clause
from conformance.strategies import sizes
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    attempt,
    is_refusal,
    pair,
    ran_compiled,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter, Restores
    from conformance.cache import PackageCache

RANGES = {"hidden_states": {1: blocks.TOKENS}}


@pytest.fixture
def kinds(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(applying.Kinds, seed)
    return pair(impl, cache, module, applying.kinds_call())


@pytest.fixture
def stack(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(blocks.Stack, seed)
    return pair(impl, cache, module, blocks.call(), dynamic=RANGES)


@clause("APP-01")
@given(tokens=sizes(blocks.TOKENS))
def test_an_applied_module_answers_as_eager_at_every_size(
    stack: Pair, tokens: int
) -> None:
    assert_agrees(stack, blocks.call(tokens, seed=tokens))


@clause("APP-02")
def test_compiled_code_answers(impl: Adapter, cache: PackageCache, seed: int) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    applied = pair(impl, cache, module, blocks.call()).applied
    blocks.entered.clear()

    with ran_compiled(applied):
        applied(**blocks.call().kwargs)

    assert blocks.entered == []


@clause("APP-04")
def test_integer_and_boolean_buffers_stay_and_count(kinds: Pair) -> None:
    for name in ("index", "mask"):
        want, found = (module.get_buffer(name) for module in kinds)

        assert found.dtype == want.dtype
        assert torch.equal(found, want)

    assert_agrees(kinds, applying.kinds_call(1))


@clause("APP-11")
def test_loaded_weights_count(kinds: Pair) -> None:
    other = blocks.seeded(applying.Kinds, 99)

    loaded = attempt(lambda: kinds.applied.load_state_dict(other.state_dict()))
    kinds.eager.load_state_dict(other.state_dict())

    assert_changed_or_refused(loaded.error, kinds)


@clause("APP-12")
def test_weights_changed_in_place_count(kinds: Pair) -> None:
    for module in kinds:
        module.get_parameter("first.weight").data.mul_(1.5)
        module.get_buffer("shift").add_(0.25)

    assert_equal_or_refused(kinds, applying.kinds_call(2))


@clause("APP-12")
def test_a_fused_adapter_counts(kinds: Pair) -> None:
    before = kinds.eager(*applying.kinds_call(2).args)
    down, up = blocks.normal(4, 1, seed=7), blocks.normal(1, 4, seed=8)

    for module in kinds:
        module.get_parameter("first.weight").data += down @ up

    after = kinds.eager(*applying.kinds_call(2).args)
    assert (after - before).norm() > 0.1 * before.norm()
    assert_equal_or_refused(kinds, applying.kinds_call(2))


def new_parameter(module: nn.Module) -> None:
    weight = nn.Parameter(blocks.normal(4, 4, seed=5), requires_grad=False)
    module.first.weight = weight  # type: ignore[union-attr, assignment]
    module.second.weight = weight  # type: ignore[union-attr, assignment]


def new_data(module: nn.Module) -> None:
    module.get_parameter("first.bias").data = blocks.normal(4, seed=6)


def new_buffer(module: nn.Module) -> None:
    module.hidden = blocks.normal(4, seed=7)  # type: ignore[assignment]


def other_dtype(module: nn.Module) -> None:
    module.to(torch.float64)


@clause("APP-13")
@pytest.mark.parametrize("change", [new_parameter, new_data, new_buffer, other_dtype])
def test_replaced_weights_are_not_stale(
    kinds: Pair, change: Callable[[nn.Module], None]
) -> None:
    kinds.applied(*applying.kinds_call(3).args)

    for module in kinds:
        change(module)
    rubbish = [torch.full((4, 4), 1e30) for _ in range(64)]

    assert len(rubbish) == 64
    assert_equal_or_refused(kinds, applying.kinds_call(3))


@clause("APP-14")
def test_restore_gives_the_eager_module_back(
    impl: Restores, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    applied = pair(impl, cache, module, blocks.call()).applied
    applied(**blocks.call().kwargs)

    impl.restore(applied)
    blocks.entered.clear()
    restored = applied(**blocks.call(5).kwargs)[0]

    assert blocks.entered == ["Block"] * 3
    assert torch.equal(restored, module(**blocks.call(5).kwargs)[0])
    assert "forward" not in vars(applied)


@clause("APP-14")
def test_restore_refuses_where_nothing_was_applied(impl: Restores) -> None:
    with pytest.raises(Refused):
        impl.restore(blocks.seeded(blocks.Stack))


@clause("APP-14")
def test_one_restore_undoes_two_applies(
    impl: Restores, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    compiled = cache.compiled(blocks.seeded(blocks.Stack, seed), blocks.call())
    impl.apply(compiled, module)
    impl.apply(compiled, module)
    blocks.entered.clear()

    impl.restore(module)
    module(**blocks.call().kwargs)

    assert blocks.entered == ["Block"] * 3


@clause("APP-15")
def test_eager_code_on_an_applied_module_is_right_or_an_error(kinds: Pair) -> None:
    call = applying.kinds_call(4)

    ended = attempt(lambda: type(kinds.applied).forward(kinds.applied, *call.args))

    if ended.error is None:
        assert torch.equal(ended.value, kinds.eager(*call.args))
    else:
        assert "mat" not in str(ended.error), f"a riddle: {ended.error}"


@clause("APP-16")
def test_a_deep_copy_is_another_module(kinds: Pair) -> None:
    call = applying.kinds_call(5)
    copied = attempt(lambda: copy.deepcopy(kinds.applied))
    assert copied.error is None or is_refusal(copied.error)

    for twin in [copied.value] if copied.error is None else []:
        changed = copy.deepcopy(kinds.eager)
        for module in (twin, changed):
            module.get_parameter("first.weight").data.mul_(2)

        assert_equal_or_refused(Pair(changed, twin), call)
        assert_agrees(kinds, call)
        assert_equal_or_refused(Pair(changed, twin), call)


@clause("APP-22")
def test_one_compiled_model_serves_several_modules(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    modules = [blocks.seeded(applying.Kinds, seed + n) for n in range(3)]
    source = blocks.seeded(applying.Kinds, seed)
    compiled = cache.compiled(source, applying.kinds_call())

    ended = attempt(lambda: [applied_copy(impl, compiled, m) for m in modules])

    assert isinstance(ended.error, (Refused, type(None)))
    for order in (0, 1, 2, 0, 2, 1, 0) if ended.error is None else ():
        twins = Pair(modules[order], ended.value[order])
        assert_agrees(twins, applying.kinds_call(order))


@clause("APP-24")
def test_applying_again_replaces(impl: Adapter, cache: PackageCache, seed: int) -> None:
    module = blocks.seeded(applying.Kinds, seed)

    def twice() -> Pair:
        source = blocks.seeded(applying.Kinds, seed)
        compiled = cache.compiled(source, applying.kinds_call())
        applied = applied_copy(impl, compiled, module)
        impl.apply(compiled, applied)
        return Pair(module, applied)

    assert_agrees_or_refuses(twice, [applying.kinds_call(n) for n in range(3)])


@clause("APP-25")
def test_training_mode_is_refused_or_honoured(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(applying.Noisy, seed)
    applied = pair(impl, cache, module, applying.kinds_call()).applied
    applied.train()
    x = torch.ones(3, 4)

    ended = attempt(lambda: [applied(x) for _ in range(8)])

    if ended.error is not None:
        assert is_refusal(ended.error)
    else:
        dropped = torch.stack(ended.value) == 0
        assert 0.2 < dropped.float().mean() < 0.8


@clause("APP-26")
def test_a_refusal_leaves_the_module_usable(kinds: Pair) -> None:
    for _attempt in range(20):
        with refuses():
            kinds.applied(torch.ones(3, 5))

        assert_agrees(kinds, applying.kinds_call(6))


def assert_changed_or_refused(error: Exception | None, twins: Pair) -> None:
    """Assert that a change was refused, or that its effect is eager's."""
    if error is not None:
        assert is_refusal(error), f"the change ended in {error!r}"
    else:
        assert_equal_or_refused(twins, Call(applying.kinds_call(2).args, {}))
