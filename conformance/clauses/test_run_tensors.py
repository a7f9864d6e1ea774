"""Chapter RUN: the tensors of a call, their types, sizes, memory and kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from conformance.adapter import Call
from conformance.clauses import _calls
from conformance.models import blocks, calls
from conformance.models.blocks import normal
from conformance.perturb import KINDS
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_equal_or_refused,
    pair,
)

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

KEEPING = [name for name, kind in KINDS.items() if kind.keeps]
FLOATS = ("float64", "float32", "float16", "bfloat16", "complex64")
DTYPES = (*FLOATS, "int64", "int32", "uint8", "bool")
LAYOUTS = ("inside a buffer", "sliced", "turned", "expanded")


@pytest.fixture
def many(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    return _calls.many(impl, cache, seed)


@pytest.fixture
def overlapping(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Compile Overlapping for a transposed and a contiguous tensor."""
    call = Call((normal(8, 6).t(), normal(6, 8, seed=1)))
    return pair(impl, cache, blocks.seeded(calls.Overlapping, seed), call)


@pytest.fixture
def complexes(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(calls.Complexes, seed)
    return pair(impl, cache, module, calls.complex_call())


@clause("RUN-14")
@pytest.mark.parametrize("dtype", DTYPES)
def test_other_dtypes_are_noticed(many: Pair, dtype: str) -> None:
    assert_agrees(many, calls.many_call())
    other = getattr(torch, dtype)

    spoilt = _calls.each_tensor(calls.many_call(), lambda x: x.to(other))
    _calls.assert_noticed(many, spoilt)


@clause("RUN-15")
def test_other_ranks_are_noticed(many: Pair) -> None:
    good = calls.many_call()
    for spoil in (
        lambda x: x[None],
        lambda x: x[..., None],
        lambda x: x.flatten(),
        lambda x: x.flatten()[0],
        lambda x: x[0] if x.ndim else x,
    ):
        _calls.assert_noticed(many, _calls.each_tensor(good, spoil))


@clause("RUN-16")
def test_sizes_that_are_one_more_are_noticed(many: Pair) -> None:
    spoilt = _calls.each_size(calls.many_call(), lambda size: size + 1)
    _calls.assert_noticed(many, spoilt)


@clause("RUN-16")
def test_sizes_that_are_one_less_are_noticed(many: Pair) -> None:
    spoilt = _calls.each_size(calls.many_call(), lambda size: size - 1)
    _calls.assert_noticed(many, spoilt)


@clause("RUN-17")
def test_sizes_that_broadcast_are_noticed(many: Pair) -> None:
    _calls.assert_noticed(many, _calls.each_size(calls.many_call(), lambda _: 1))


@clause("RUN-18")
def test_empty_tensors_are_noticed(many: Pair) -> None:
    _calls.assert_noticed(many, _calls.each_size(calls.many_call(), lambda _: 0))


@clause("RUN-19")
@pytest.mark.parametrize("kind", LAYOUTS)
def test_other_strides_give_eagers_answer(many: Pair, kind: str) -> None:
    for number in range(24):
        _calls.assert_noticed_kind(many, calls.many_call(), kind, number)


@clause("RUN-20", may_refuse="setup")  # of an example that is transposed
def test_contiguous_arguments_after_a_transposed_example(overlapping: Pair) -> None:
    one, other = normal(6, 8, seed=2), normal(6, 8, seed=3)

    assert_equal_or_refused(overlapping, Call((one, other)))


@clause("RUN-20", may_refuse="setup")
def test_transposed_arguments_after_a_contiguous_example(overlapping: Pair) -> None:
    one, other = normal(8, 6, seed=2).t(), normal(8, 6, seed=3).t()

    assert_agrees(overlapping, Call((one, normal(6, 8, seed=3))))
    assert_equal_or_refused(overlapping, Call((one, other)))


@clause("RUN-21")
@pytest.mark.parametrize("kind", KEEPING)
def test_calls_that_keep_the_contract_are_answered(many: Pair, kind: str) -> None:
    for number in range(8):
        _calls.assert_clean(many, calls.many_call(), kind, number)


@clause("RUN-22")
@pytest.mark.parametrize("kind", ["inside a buffer", "sliced"])
def test_poison_around_an_argument_stays_where_it_is(many: Pair, kind: str) -> None:
    for rows in (2, 5, 12):
        for number in range(8):
            _calls.assert_noticed_kind(many, calls.many_call(rows), kind, number)


@clause("RUN-23")
def test_a_tensor_that_is_given_twice(
    impl: Adapter, cache: PackageCache, many: Pair
) -> None:
    one, wide = normal(3, 4, seed=4), normal(8, seed=5)

    assert_equal_or_refused(_calls.optional(impl, cache), Call((one,), {"plus": one}))
    assert_equal_or_refused(many, calls.many_call(parts=(wide, [wide, wide])))


@clause("RUN-23", may_refuse="setup")  # RUN-20 lets such an example be refused
def test_tensors_that_overlap(overlapping: Pair) -> None:
    memory = normal(48, seed=6)

    # Both with the strides of the example: it is the memory that is shared.
    assert_equal_or_refused(
        overlapping, Call((memory.view(8, 6).t(), memory.view(6, 8)))
    )


@clause("RUN-24")
def test_arguments_changed_in_place_count(many: Pair) -> None:
    call = calls.many_call()
    assert_agrees(many, call)

    call.args[0].mul_(-2)
    call.kwargs["extra"]["bias"].add_(1)

    assert_agrees(many, call)


@clause("RUN-24")
def test_arguments_of_another_layout_changed_in_place_count(many: Pair) -> None:
    good = calls.many_call()
    turned = normal(8, 5).t()  # what is made dense for it must be made anew
    call = Call((turned, *good.args[1:]), good.kwargs)
    assert_equal_or_refused(many, call)

    turned.mul_(-2)

    assert_equal_or_refused(many, call)


@clause("RUN-25")
def test_tensors_without_data_are_refused(many: Pair) -> None:
    spoilt = _calls.each_tensor(calls.many_call(), lambda x: x.to("meta"))
    _calls.assert_noticed(many, spoilt)


@clause("RUN-26")
@pytest.mark.parametrize("kind", ["sparse", "quantised"])
def test_sparse_and_quantised_tensors_are_noticed(many: Pair, kind: str) -> None:
    for number in range(16):
        _calls.assert_noticed_kind(many, calls.many_call(), kind, number)


@clause("RUN-27")
def test_subclasses_are_noticed(many: Pair) -> None:
    for number in range(16):
        _calls.assert_noticed_kind(many, calls.many_call(), "subclass", number)


@clause("RUN-28")
def test_negated_views_are_right(many: Pair) -> None:
    for number in range(16):
        _calls.assert_noticed_kind(many, calls.many_call(), "conjugated", number)


@clause("RUN-28")
def test_conjugated_views_are_right(complexes: Pair) -> None:
    call = calls.complex_call(1)
    assert_agrees(complexes, call)

    assert_equal_or_refused(complexes, Call((call.args[0], call.args[1].conj())))


@clause("RUN-20", may_refuse="setup")
def test_contiguous_arguments_after_transposed_calls(overlapping: Pair) -> None:
    def turned(seed: int) -> Call:
        one, other = (normal(8, 6, seed=seed + number).t() for number in range(2))
        return Call((one, other))

    for seed in range(3):
        assert_equal_or_refused(overlapping, turned(seed))

    contiguous = Call((normal(6, 8, seed=7), normal(6, 8, seed=8)))
    assert_equal_or_refused(overlapping, contiguous)
    assert_equal_or_refused(overlapping, turned(9))
