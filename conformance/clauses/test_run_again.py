"""Chapter RUN: what a call leaves behind, for the next one to meet."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from conformance.clauses import _calls
from conformance.clauses._applied import unless_refused
from conformance.models import calls
from conformance.models.blocks import normal
from conformance.spec import clause
from conformance.workbench import assert_agrees, assert_equal_or_refused, attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter, Call
    from conformance.cache import PackageCache
    from conformance.workbench import Pair


@pytest.fixture
def many(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    return _calls.many(impl, cache, seed)


@clause("RUN-29")
def test_gradients_are_not_lost_after_a_call_without(many: Pair) -> None:
    call = calls.many_call()
    wanting = normal(5, 8).requires_grad_()

    with torch.enable_grad():
        many.applied(*call.args, **call.kwargs)
        found = unless_refused(
            lambda: many.applied(wanting, *call.args[1:], **call.kwargs)
        )

    assert all(result.requires_grad for result in found)


@clause("RUN-24")
@pytest.mark.parametrize("name", ["x", "extra"])
def test_a_change_counts_that_no_counter_counts(many: Pair, name: str) -> None:
    call = _turned(calls.many_call())
    assert_equal_or_refused(many, call)
    changed = {"x": call.args[0], "extra": call.kwargs["extra"]["bias"]}[name]

    changed.data.mul_(-2)  # as through NumPy: the version of the tensor stays

    assert_equal_or_refused(many, call)


@clause("RUN-24")
def test_a_change_in_the_midst_of_an_argument_counts(many: Pair) -> None:
    call = calls.many_call()
    assert_agrees(many, call)

    for _, tensor in _calls.tensors(call):
        if tensor.numel() > 2:  # its sum, and its ends, are those of before
            flat = tensor.view(-1)
            flat[1], flat[2] = flat[2].clone(), flat[1].clone()

    assert_agrees(many, call)


def _turned(call: Call) -> Call:
    """Lay `x` out as a transposed one, so that it must be made dense."""
    return _calls.with_leaf(call, 0, call.args[0].t().contiguous().t())


@clause("RUN-29")
def test_gradients_are_not_lost_on_the_way_from_another_layer(many: Pair) -> None:
    call = calls.many_call()
    inner = normal(5, 8).requires_grad_() * 2  # no leaf of its graph

    with torch.enable_grad():
        found = unless_refused(
            lambda: many.applied(inner, *call.args[1:], **call.kwargs)
        )

    assert all(result.requires_grad for result in found)


@clause("RUN-37")
def test_whatever_stood_beside_a_refused_argument_is_let_go(many: Pair) -> None:
    call = _calls.with_leaf(calls.many_call(), 0, normal(5, 7))
    gone = [weakref.ref(tensor) for _, tensor in _calls.tensors(call)]

    refused = attempt(partial(many.applied, *call.args, **call.kwargs))

    assert refused.error is not None
    del refused, call
    gc.collect()
    assert [ref for ref in gone if ref() is not None] == []


def _widens(x: torch.Tensor) -> None:
    x.data = x.to(torch.float64)


SPOILT_IN_PLACE: dict[str, Callable[[Call], object]] = {
    "mask turned": lambda call: call.args[2].t_(),
    "ids of another rank": lambda call: call.args[1].unsqueeze_(0),
    "x of another dtype": lambda call: _widens(call.args[0]),
    "parts cut": lambda call: call.kwargs["parts"][1].pop(),
    "extra cut": lambda call: call.kwargs["extra"].pop("bias"),
}


@clause("RUN-38")
@pytest.mark.parametrize("name", SPOILT_IN_PLACE)
def test_good_calls_prove_nothing_about_the_same_objects(many: Pair, name: str) -> None:
    call = calls.many_call()
    for _ in range(3):
        assert_agrees(many, call)

    SPOILT_IN_PLACE[name](call)

    assert_equal_or_refused(many, call)


@clause("RUN-38")
@pytest.mark.parametrize("name", SPOILT_IN_PLACE)
def test_a_thousand_good_calls_prove_nothing(many: Pair, name: str) -> None:
    for _ in range(1030):  # past any round number at which somebody stops to look
        _calls.made(many, calls.many_call())
    bad = calls.many_call()

    SPOILT_IN_PLACE[name](bad)

    assert_equal_or_refused(many, bad)
    assert_equal_or_refused(many, calls.many_call(mode="minus"))
