"""Chapter RUN: how arguments are given, and those that are no tensors."""

from __future__ import annotations

import enum
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance.adapter import Call
from conformance.clauses import _calls
from conformance.models import blocks, calls, told
from conformance.models.blocks import normal
from conformance.spec import clause
from conformance.workbench import (
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    pair,
)

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache
    from conformance.workbench import Pair

DEFAULTS: dict[str, Any] = {"flag": True, "n": 2, "factor": 1.5, "mode": "plus"}


class Elsewhere(enum.Enum):
    """Kind's members, in another class."""

    BENT = "bent"


@pytest.fixture
def many(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    return _calls.many(impl, cache, seed)


@pytest.fixture
def numbers(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    return _calls.numbers(impl, cache, seed)


@pytest.fixture
def chosen(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    return _calls.chosen(impl, cache, seed)


@pytest.fixture
def exact(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    return pair(impl, cache, blocks.seeded(told.Told, seed), told.told_call())


@clause("RUN-01")
def test_defaults_spelt_out_are_answered(many: Pair) -> None:
    assert_agrees(many, calls.many_call(seed=1, **DEFAULTS))
    assert_agrees(many, calls.many_call(seed=2, n=2))
    assert_agrees(many, calls.many_call(seed=3))


@clause("RUN-02")
def test_keywords_and_entries_in_another_order_are_answered(many: Pair) -> None:
    call = calls.many_call(seed=1, **DEFAULTS)
    extra = dict(reversed(call.kwargs["extra"].items()))
    turned = dict(reversed({**call.kwargs, "extra": extra}.items()))

    assert_agrees(many, Call(call.args, turned))


@clause("RUN-03")
@pytest.mark.parametrize("name", ["size", "parts", "extra"])
def test_a_missing_keyword_is_refused(many: Pair, name: str) -> None:
    call = calls.many_call()
    left = {key: value for key, value in call.kwargs.items() if key != name}

    _calls.assert_refused(many, *call.args, **left)


@clause("RUN-03")
def test_a_missing_positional_argument_is_refused(many: Pair) -> None:
    call = calls.many_call()

    _calls.assert_refused(many, *call.args[:1], **call.kwargs)


@clause("RUN-04")
def test_an_unknown_keyword_is_refused(many: Pair) -> None:
    call = calls.many_call()

    _calls.assert_refused(many, *call.args, **call.kwargs, flags=True)
    _calls.assert_refused(many, *call.args, **call.kwargs, masks=call.args[2])


@clause("RUN-04")
def test_a_surplus_positional_argument_is_refused(many: Pair) -> None:
    call = calls.many_call()

    _calls.assert_refused(many, *call.args, call.args[0], **call.kwargs)
    _calls.assert_refused(many, *call.args, None, **call.kwargs)


@clause("RUN-05")
@pytest.mark.parametrize(
    "other",
    [{"flag": False}, {"n": 3}, {"factor": 1.25}, {"mode": "minus"}, {"mode": "power"}],
    ids=str,
)
def test_other_values_are_noticed(many: Pair, other: dict[str, Any]) -> None:
    assert_agrees(many, calls.many_call())

    assert_equal_or_refused(many, calls.many_call(**other))


@clause("RUN-05", may_refuse="setup")  # for the module has a named tuple, and enums
@pytest.mark.parametrize(
    "other", [{"limit": 0.1}, {"count": -3}, {"strict": False}], ids=str
)
def test_other_numbers_are_noticed(numbers: Pair, other: dict[str, Any]) -> None:
    _calls.made(numbers, calls.numbers_call())

    assert_equal_or_refused(numbers, calls.numbers_call(**other))


@clause("RUN-05")
@pytest.mark.parametrize(
    "other",
    [
        {"eps": told.TINY},
        {"count": told.LARGE + 1},
        {"mode": "MINUS"},
        {"sizes": [(1, 3)]},
    ],
    ids=str,
)
def test_values_nearby_and_inside_are_noticed(
    exact: Pair, other: dict[str, Any]
) -> None:
    assert_agrees(exact, told.told_call())

    assert_equal_or_refused(exact, told.told_call(**other))


@clause("RUN-06", may_refuse="setup")
@pytest.mark.parametrize("other", [{"count": 3.0}, {"strict": 1}], ids=str)
def test_values_of_another_type_are_noticed(numbers: Pair, other: Any) -> None:
    _calls.made(numbers, calls.numbers_call())

    assert_equal_or_refused(numbers, calls.numbers_call(**other))


@clause("RUN-07")
def test_equal_values_are_accepted(many: Pair) -> None:
    mode = str(b"plus", "ascii")  # another object than the literal

    assert_agrees(many, calls.many_call(mode=mode, factor=float("1.5")))


@clause("RUN-07", may_refuse="setup")
def test_another_nan_is_accepted(numbers: Pair) -> None:
    assert_agrees(numbers, calls.numbers_call(limit=-float("nan")))


@clause("RUN-08", may_refuse=True)
def test_exported_enums_and_dtypes_are_answered(chosen: Pair) -> None:
    assert_agrees(chosen, calls.chosen_call(1))


@clause("RUN-08", may_refuse=True)
@pytest.mark.parametrize(
    "other",
    [{"kind": calls.Kind.PLAIN}, {"kind": "bent"}, {"kind": Elsewhere.BENT}],
    ids=str,
)
def test_other_members_are_noticed(chosen: Pair, other: dict[str, Any]) -> None:
    assert_equal_or_refused(chosen, calls.chosen_call(**other))


@clause("RUN-08", may_refuse=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, "float64"], ids=str)
def test_other_dtypes_as_arguments_are_noticed(chosen: Pair, dtype: Any) -> None:
    assert_equal_or_refused(chosen, calls.chosen_call(dtype=dtype))


@clause("RUN-09")
def test_none_for_a_tensor_is_noticed(many: Pair) -> None:
    assert_agrees(many, calls.many_call())

    _calls.assert_noticed(many, _calls.each_tensor(calls.many_call(), lambda _: None))


@clause("RUN-09")
def test_a_tensor_for_none_is_noticed(impl: Adapter, cache: PackageCache) -> None:
    twins = _calls.optional(impl, cache)
    one, other = normal(3, 4, seed=1), normal(3, 4, seed=2)

    assert_agrees(twins, Call((one,), {"plus": other}))
    for given in ({"minus": other}, {"plus": one, "minus": other}, {}):
        assert_equal_or_refused(twins, Call((one,), given))


@clause("RUN-09")
def test_a_tensor_for_none_in_a_container_is_noticed(exact: Pair) -> None:
    assert_agrees(exact, told.told_call())

    assert_equal_or_refused(exact, told.told_call(extra={"add": normal(4)}))


def _instead(number: float, _leaf: torch.Tensor) -> float:
    return number


@clause("RUN-10")
def test_numbers_for_tensors_are_noticed(many: Pair) -> None:
    for number in (1, 0.5, True):
        spoilt = _calls.each_tensor(calls.many_call(), partial(_instead, number))
        _calls.assert_noticed(many, spoilt)


@clause("RUN-10")
def test_tensors_for_numbers_are_noticed(many: Pair) -> None:
    assert_equal_or_refused(many, calls.many_call(n=_calls.here(3)))
    assert_equal_or_refused(many, calls.many_call(factor=_calls.here(2.5)))
    assert_equal_or_refused(many, calls.many_call(flag=_calls.here(0)))


@clause("RUN-11")
def test_containers_of_another_kind_are_noticed(many: Pair) -> None:
    good = calls.many_call().kwargs
    one, (two, three) = good["parts"]
    gain, bias = good["extra"]["gain"], good["extra"]["bias"]
    others: list[dict[str, Any]] = [
        {"parts": [one, [two, three]]},
        {"parts": (one, (two, three))},
        {"parts": (one, [two])},
        {"parts": (one, [two, three, one])},
        {"parts": ([one, two], three)},
        {"parts": (one, two)},
        {"parts": (one, torch.stack([two, three]))},
        {"extra": {"gain": gain}},
        {"extra": {"gain": gain, "bias": bias, "more": gain}},
        {"extra": {"gain": gain, "Bias": bias}},
        {"extra": [gain, bias]},
        {"extra": torch.stack([gain, bias])},
    ]

    for other in others:
        assert_equal_or_refused(many, calls.many_call(**other))


@clause("RUN-11")
@pytest.mark.parametrize(("key", "other"), [(1, "1"), ("1", 1)], ids=repr)
def test_keys_of_another_type_are_noticed(
    impl: Adapter, cache: PackageCache, seed: int, key: Any, other: Any
) -> None:
    def make() -> Pair:
        module = blocks.seeded(told.Keyed, seed)
        return pair(impl, cache, module, told.keyed_call(key))

    assert_agrees_or_refuses(make, [told.keyed_call(key), told.keyed_call(other)])


@clause("RUN-12", may_refuse=True)
def test_named_tuples_of_another_class_are_noticed(numbers: Pair) -> None:
    good = calls.numbers_call()
    x, (gain, shift) = good.args

    for size in (calls.Other(gain, shift), (gain, shift), [gain, shift]):
        assert_equal_or_refused(numbers, Call((x, size), good.kwargs))


@clause("RUN-13")
def test_exchanged_arguments_give_eagers_answer(many: Pair) -> None:
    good = calls.many_call()
    one, (two, three) = good.kwargs["parts"]
    extra = {"gain": good.kwargs["extra"]["bias"], "bias": good.kwargs["extra"]["gain"]}

    assert_agrees(many, calls.many_call(parts=(two, [one, three])))
    assert_agrees(many, calls.many_call(parts=(one, [three, two])))
    assert_agrees(many, calls.many_call(extra=extra))


@clause("RUN-13", may_refuse=True)
def test_exchanged_fields_give_eagers_answer(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    good = calls.numbers_call(limit=2.5)  # NaN is what RUN-07 asks for
    twins = pair(impl, cache, blocks.seeded(calls.Chosen, seed), good)
    x, (gain, shift) = good.args

    assert_agrees(twins, good)
    assert_agrees(twins, Call((x, calls.Size(shift, gain)), good.kwargs))
