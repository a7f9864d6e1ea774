"""Chapter RUN: calls that differ from a good one in what is easily overlooked."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance.adapter import Call
from conformance.clauses import _calls
from conformance.models import blocks, calls, told
from conformance.models.blocks import normal
from conformance.perturb_tensors import Negated
from conformance.spec import clause
from conformance.workbench import (
    assert_agrees,
    assert_equal_or_refused,
    attempt,
    is_named,
    is_refusal,
    pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache
    from conformance.workbench import Pair


@pytest.fixture
def many(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    return _calls.many(impl, cache, seed)


@clause("RUN-04")
@pytest.mark.parametrize("name", ["x", "ids", "mask"])
def test_an_argument_given_by_position_and_by_name_is_refused(
    many: Pair, name: str
) -> None:
    call = calls.many_call()
    again = call.args[("x", "ids", "mask").index(name)]

    _calls.assert_refused(many, *call.args, **call.kwargs, **{name: again})


@clause("RUN-04")
def test_an_unknown_keyword_is_refused_though_it_is_none(many: Pair) -> None:
    call = calls.many_call()

    _calls.assert_refused(many, *call.args, **call.kwargs, masks=None)


@clause("RUN-05")
def test_the_sign_of_a_zero_is_noticed(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    twins = pair(impl, cache, blocks.seeded(told.Signed, seed), told.signed_call())
    assert_agrees(twins, told.signed_call())

    assert_equal_or_refused(twins, told.signed_call(by=-0.0))


@clause("RUN-10")
def test_lists_of_numbers_for_tensors_are_noticed(many: Pair) -> None:
    assert_agrees(many, calls.many_call())

    for spoil in (torch.Tensor.tolist, lambda x: x.cpu().numpy()):
        _calls.assert_noticed(many, _calls.each_tensor(calls.many_call(), spoil))


@clause("RUN-11")
@pytest.mark.parametrize(
    "other",
    [{"parts": ()}, {"parts": None}, {"extra": {}}, {"extra": None}],
    ids=str,
)
def test_empty_containers_are_noticed(many: Pair, other: dict[str, Any]) -> None:
    assert_agrees(many, calls.many_call())

    assert_equal_or_refused(many, calls.many_call(**other))


@clause("RUN-11")
def test_dicts_that_keep_an_order_of_their_own_are_noticed(many: Pair) -> None:
    extra = calls.many_call().kwargs["extra"]

    for entries in (extra.items(), reversed(extra.items())):
        assert_equal_or_refused(many, calls.many_call(extra=OrderedDict(entries)))


@clause("RUN-20", may_refuse=True)  # as may be an example with gaps
def test_contiguous_arguments_after_an_example_with_gaps_and_repeats(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    example = Call((normal(1, 8).expand(6, 8), normal(6, 16, seed=1)[:, ::2]))
    twins = pair(impl, cache, blocks.seeded(calls.Overlapping, seed), example)
    one, other = normal(6, 8, seed=2), normal(6, 8, seed=3)

    assert_equal_or_refused(twins, example)
    assert_equal_or_refused(twins, Call((one, other)))
    assert_equal_or_refused(twins, Call((one, example.args[1])))


@clause("RUN-27")
def test_subclasses_of_every_dtype_are_noticed(many: Pair) -> None:
    spoilt = _calls.each_tensor(calls.many_call(), lambda x: x.as_subclass(Negated))
    _calls.assert_noticed(many, spoilt)


LAYOUTS: dict[str, Callable[[], torch.Tensor]] = {
    "transposed": lambda: normal(4, 3).t(),
    "gaps": lambda: normal(3, 8)[:, ::2],
    "in the middle": lambda: normal(5, 4)[1:4],
}


@clause("RUN-32", may_refuse=True)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["input", "view"])
def test_results_share_memory_with_arguments_of_any_layout(
    impl: Adapter, cache: PackageCache, seed: int, name: str, layout: str
) -> None:
    module = blocks.seeded(calls.Returned, seed)
    twins = pair(impl, cache, module, calls.returned_call())
    given = [LAYOUTS[layout]() for _ in twins]

    with torch.no_grad():
        twins.eager(given[0])[name].add_(1)
        made = attempt(lambda: twins.applied(given[1])[name].add_(1))

    assert torch.equal(*given) or (made.error and is_refusal(made.error)), made.error


ODD: dict[str, Callable[[Call], Call]] = {
    "mode": lambda call: _with(call, mode="minus"),
    "factor": lambda call: _with(call, factor=2.5),
    "flag": lambda call: _with(call, flag=False),
    "n": lambda call: _with(call, n=_calls.here(3)),
    "masks": lambda call: _with(call, masks=call.args[2]),
    "parts": lambda call: _without(call, "parts"),
    "x": lambda call: _calls.with_leaf(call, 0, call.args[0].to("meta")),
    "ids": lambda call: _calls.with_leaf(call, 1, call.args[1][:, None]),
    "mask": lambda call: _calls.with_leaf(call, 2, call.args[2].to_sparse()),
    "size": lambda call: _with(call, size=None),
}


def _with(call: Call, **other: object) -> Call:
    return Call(call.args, {**call.kwargs, **other})


def _without(call: Call, name: str) -> Call:
    return Call(call.args, {k: v for k, v in call.kwargs.items() if k != name})


@clause("RUN-34")
@pytest.mark.parametrize("name", ODD)
def test_a_refusal_names_an_argument_whatever_is_odd_about_it(
    many: Pair, name: str
) -> None:
    odd = ODD[name](calls.many_call())

    made = attempt(partial(many.applied, *odd.args, **odd.kwargs))

    assert made.error is None or is_named(str(made.error), name), made.error
