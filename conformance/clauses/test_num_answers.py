"""Chapter NUM: answers of single modules against eager and float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conformance.adapter import Call
from conformance.clauses._constants import unless_made
from conformance.models import blocks, export, numbers
from conformance.parity import assert_parity, assert_same_form, truth
from conformance.spec import clause
from conformance.strategies import seeds
from conformance.workbench import Pair, applied_copy, assert_agrees, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@pytest.fixture
def stack(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    return pair(impl, cache, blocks.seeded(blocks.Stack, seed), blocks.call())


def in_dtype(
    impl: Adapter, cache: PackageCache, dtype: torch.dtype, *, gain: float = 1.0
) -> tuple[Pair, Call]:
    """Compile a Stack in `dtype`, with the last weight `gain` times as large."""
    module = blocks.seeded(blocks.Stack).to(dtype)
    module.get_parameter("blocks.2.mlp.2.weight").mul_(gain)
    call = Call((), {"hidden_states": blocks.hidden_states().to(dtype)})
    return pair(impl, cache, module, call), call


@clause("NUM-01")
@given(draw=seeds(), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_float32_answers_are_near(stack: Pair, draw: int, scale: float) -> None:
    x = blocks.hidden_states(seed=draw % 1000) * scale

    assert_agrees(stack, Call((), {"hidden_states": x}))


@clause("NUM-01")
def test_float32_answers_are_near_for_other_weights(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    for draw in range(seed, seed + 3):
        module = blocks.seeded(blocks.Stack, draw)
        compiled = cache.compiled(blocks.seeded(blocks.Stack, draw), blocks.call())

        assert_agrees(
            Pair(module, applied_copy(impl, compiled, module)), blocks.call(seed=draw)
        )


@clause("NUM-02")
def test_bfloat16_answers_are_near(impl: Adapter, cache: PackageCache) -> None:
    twins, call = in_dtype(impl, cache, torch.bfloat16)

    assert_agrees(twins, call)


@clause("NUM-03")
def test_float16_answers_are_near(impl: Adapter, cache: PackageCache) -> None:
    twins, call = in_dtype(impl, cache, torch.float16)

    assert_agrees(twins, call)


@clause("NUM-03")
def test_float16_overflows_where_eager_does(impl: Adapter, cache: PackageCache) -> None:
    twins, call = in_dtype(impl, cache, torch.float16, gain=3e4)
    limit = torch.finfo(torch.float16).max

    exact = truth(twins.eager, call)[0].abs()
    with torch.no_grad():
        actual = twins.applied(**call.kwargs)[0]

    assert (exact > 1.1 * limit).any()
    assert torch.isinf(actual[exact > 1.1 * limit]).all()
    assert torch.isfinite(actual[exact < 0.9 * limit]).all()


@clause("NUM-04", may_refuse=True)  # EXP-17 lets a dict be refused
def test_results_have_the_form_of_eager(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(numbers.Mixed, seed)
    call = numbers.mixed_call(seed)
    applied = pair(impl, cache, module, call).applied

    with torch.no_grad():
        expected, actual = module(*call.args), applied(*call.args)

    assert_same_form(actual, expected)


@clause("NUM-04", may_refuse=True)  # EXP-17 lets a dict be refused
def test_every_dtype_of_a_result_is_near(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(numbers.Mixed, seed)
    call = numbers.mixed_call(seed)
    applied = pair(impl, cache, module, call).applied

    with torch.no_grad():
        expected, actual = module(*call.args), applied(*call.args)

    assert_parity(actual, expected, truth(module, call))


@clause("NUM-04")
def test_no_bit_of_a_wide_dtype_is_lost(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(numbers.Exact, seed)

    for twins in unless_made(lambda: pair(impl, cache, module, numbers.exact_call())):
        assert_agrees(twins, numbers.exact_call(seed=4))


@clause("NUM-05")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nonfinite_values_pass_through(stack: Pair, value: float) -> None:
    x = blocks.hidden_states()
    x[0, 3, 5] = value

    with torch.no_grad():
        expected = stack.eager(x.clone())[0]
        actual = stack.applied(hidden_states=x)[0]

    assert not torch.isfinite(expected[0]).all()
    assert torch.equal(torch.isfinite(actual), torch.isfinite(expected))
    assert torch.equal(torch.isnan(actual), torch.isnan(expected))


@clause("NUM-06")
def test_the_same_call_gives_the_same_bits(stack: Pair) -> None:
    x = blocks.hidden_states(seed=3)

    answers = [stack.applied(hidden_states=x.clone())[0] for _ in range(20)]

    assert all(torch.equal(answer, answers[0]) for answer in answers)


@clause("NUM-10")
def test_arguments_stay_as_they_are(stack: Pair) -> None:
    x = blocks.hidden_states(seed=4)
    before = x.clone()

    stack.applied(hidden_states=x)

    assert torch.equal(x, before)


@clause("NUM-11")
def test_a_later_call_leaves_earlier_results_alone(stack: Pair) -> None:
    first = stack.applied(hidden_states=blocks.hidden_states(seed=5))[0]
    kept = first.clone()

    for other in range(6, 12):
        stack.applied(hidden_states=blocks.hidden_states(seed=other))

    assert torch.equal(first, kept)


@clause("NUM-11")
def test_as_many_results_as_a_loop_makes_keep_their_values(stack: Pair) -> None:
    made = []
    for number in range(40):
        (result,) = stack.applied(hidden_states=blocks.hidden_states(seed=number))
        made.append((result, result.clone()))

    assert all(torch.equal(result, kept) for result, kept in made)


@clause("NUM-11")
def test_a_view_keeps_its_values_when_the_result_is_gone(stack: Pair) -> None:
    with torch.inference_mode():  # in which a view does not hold on to its base
        view = stack.applied(hidden_states=blocks.hidden_states(seed=5))[0][:1]
        kept = view.clone()
        for other in range(6, 12):
            stack.applied(hidden_states=blocks.hidden_states(seed=other))

    assert torch.equal(view, kept)


@clause("NUM-11", may_refuse=True)
@pytest.mark.parametrize(
    ("make", "draw"),
    [(numbers.Mixed, numbers.mixed_call), (export.Output, export.rows_call)],
    ids=["a dict", "a dataclass"],
)
def test_containers_of_results_keep_what_they_hold(
    impl: Adapter, cache: PackageCache, make: Any, draw: Callable[..., Call]
) -> None:
    applied = pair(impl, cache, blocks.seeded(make), draw()).applied
    first = applied(*draw(seed=1).args)
    kept = {name: tensor.clone() for name, tensor in first.items()}

    later = applied(*draw(seed=2).args)

    assert later.keys() == first.keys() == kept.keys()
    assert all(torch.equal(first[name], kept[name]) for name in kept)
