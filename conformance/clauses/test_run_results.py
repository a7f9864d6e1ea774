"""Chapter RUN: modes, results, refusals, and the call after."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from conformance import device, fuzz
from conformance.adapter import Call
from conformance.clauses import _calls, _threads
from conformance.fresh import fresh_python
from conformance.models import applying, blocks, calls, told
from conformance.models.blocks import normal
from conformance.parity import assert_parity, truth
from conformance.perturb import KINDS
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_equal_or_refused,
    attempt,
    is_named,
    is_refusal,
    pair,
)

if TYPE_CHECKING:
    from torch import nn

    from conformance.adapter import Adapter, Packages
    from conformance.cache import PackageCache

PAGE = Path("/proc/self/statm")


@pytest.fixture
def many(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    return _calls.many(impl, cache, seed)


@pytest.fixture
def noisy(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(applying.Noisy, seed)
    return pair(impl, cache, module, applying.kinds_call())


@pytest.fixture
def returned(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(calls.Returned, seed)
    return pair(impl, cache, module, calls.returned_call())


@clause("RUN-29")
def test_gradients_are_not_lost(many: Pair) -> None:
    for number in range(16):
        _calls.assert_noticed_kind(many, calls.many_call(), "wanting gradients", number)


@clause("RUN-30")
def test_modes_change_nothing(many: Pair) -> None:
    call = calls.many_call(seed=1)
    with torch.inference_mode():
        inner = calls.many_call(seed=1)
    wanted = many.eager(*call.args, **call.kwargs)

    answers = []
    for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with mode():
            answers.append(many.applied(*call.args, **call.kwargs))
            answers.append(many.applied(*inner.args, **inner.kwargs))

    for answer in answers:
        assert_parity(answer.clone(), wanted, truth(many.eager, call), strides=False)


@clause("RUN-30")
def test_results_can_be_used_outside_of_inference_mode(many: Pair) -> None:
    call = calls.many_call(seed=1)

    with torch.no_grad():
        answer = many.applied(*call.args, **call.kwargs)
    weight = torch.ones(8, device=answer.device, requires_grad=True)
    (answer * weight).sum().backward()

    assert weight.grad is not None


@clause("RUN-31")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("subject", ["many", "noisy"])
def test_autocast_is_noticed(
    request: pytest.FixtureRequest, subject: str, dtype: torch.dtype
) -> None:
    twins: Pair = request.getfixturevalue(subject)
    call = calls.many_call(seed=1) if subject == "many" else applying.kinds_call(seed=1)
    assert_agrees(twins, call)

    with torch.autocast(device.chosen().split(":")[0], dtype=dtype):
        assert_equal_or_refused(twins, call)


@clause("RUN-32", may_refuse=True)
@pytest.mark.parametrize("name", ["input", "view"])
def test_writing_to_a_result_changes_the_argument_as_in_eager(
    returned: Pair, name: str
) -> None:
    left = []
    for module in returned:
        (x,) = calls.returned_call().args
        with torch.no_grad():
            module(x)[name].add_(1)
        left.append(x)

    assert torch.equal(*left)


@clause("RUN-32", may_refuse=True)
@pytest.mark.parametrize("name", ["argument", "answer", "again"])
def test_writing_to_a_result_changes_nothing_that_eager_leaves(
    impl: Adapter, cache: PackageCache, seed: int, name: str
) -> None:
    module = blocks.seeded(told.Copying, seed)
    changed = []
    for twin in pair(impl, cache, module, told.copying_call()):
        (x,) = told.copying_call().args
        with torch.no_grad():
            held = {"x": x, **twin(x)}
            before = {key: tensor.clone() for key, tensor in held.items()}
            held[name].add_(1)
        changed.append([key for key in held if not held[key].equal(before[key])])

    eager, applied = changed
    assert applied == eager


@clause("RUN-33", may_refuse=True)
def test_results_are_of_their_class_in_a_fresh_process(
    impl: Packages, cache: PackageCache, seed: int, adapter_name: str, tmp_path: Path
) -> None:
    module = blocks.seeded(calls.Returned, seed)
    impl.save(cache.compiled(module, calls.returned_call()), tmp_path)
    with torch.no_grad():
        eager = module(*calls.returned_call().args)

    found = fresh_python(
        "conformance.clauses._calls:fresh_result", adapter_name, str(tmp_path), seed
    )

    kinds = [type(eager).__qualname__, type(eager["output"]).__qualname__]
    assert found.value == kinds


BAD = {
    "ids": lambda call: _calls.with_leaf(call, 1, call.args[1].float()),
    "x": lambda call: _calls.with_leaf(call, 0, normal(5, 7)),
    "parts": lambda call: _with(call, parts=(call.kwargs["parts"][0], [normal(3)] * 2)),
    "extra": lambda call: _with(call, extra={"gain": normal(8)}),
    "size": lambda call: _with(call, size="large"),
}


def _with(call: Call, **other: object) -> Call:
    return Call(call.args, {**call.kwargs, **other})


@clause("RUN-34")
@pytest.mark.parametrize("name", BAD)
def test_a_refusal_names_the_argument(many: Pair, name: str) -> None:
    bad = BAD[name](calls.many_call())

    words = _calls.assert_refused(many, *bad.args, **bad.kwargs)

    assert is_named(words, name), words


BADLY = [("ids", "parts"), ("x", "parts"), ("ids", "extra"), ("size", "x")]


@clause("RUN-35")
@pytest.mark.parametrize(("one", "other"), BADLY)
def test_a_refusal_names_all_that_is_wrong(many: Pair, one: str, other: str) -> None:
    bad = BAD[other](BAD[one](calls.many_call()))

    words = _calls.assert_refused(many, *bad.args, **bad.kwargs)

    assert is_named(words, one), words
    assert is_named(words, other), words


@clause("RUN-36")
def test_a_good_call_after_refusals_is_right(many: Pair) -> None:
    for number, kind in enumerate(KINDS):
        # What becomes of a bad call that is not refused is RUN-39's to ask.
        fuzz.judge(many, calls.many_call(), kind, number)
        if number % 4 == 0:
            assert_agrees(many, calls.many_call(seed=number))

    assert_agrees(many, calls.many_call(seed=99))


@clause("RUN-37")
def test_refused_arguments_are_let_go(many: Pair) -> None:
    call = calls.many_call()
    bad = normal(5, 7)
    gone = weakref.ref(bad)

    refused = attempt(partial(many.applied, bad, *call.args[1:], **call.kwargs))

    assert refused.error is not None
    del refused, bad
    gc.collect()
    assert gone() is None


@clause("RUN-37")
def test_refusals_leak_no_memory(many: Pair) -> None:
    call = calls.many_call()
    before = 0
    gc.freeze()  # a collection looks at what refusals leave, and takes no time
    for number in range(220):
        bad = torch.zeros(5, 1 << 16)[:, :7] if number % 2 else normal(1 << 15, 8)
        refused = attempt(partial(many.applied, bad, *call.args[1:], **call.kwargs))
        assert refused.error is not None, f"call {number} was answered, not refused"
        del bad, refused
        gc.collect()  # an error and its traceback are a cycle
        if number == 20:  # allocators have settled by then
            before = _resident_bytes()

    assert _resident_bytes() - before < 64 << 20


def _resident_bytes() -> int:
    return int(PAGE.read_text().split()[1]) * 4096


@clause("RUN-38")
@pytest.mark.parametrize("name", BAD)
def test_good_calls_prove_nothing_about_the_next(many: Pair, name: str) -> None:
    for number in range(3):
        assert_agrees(many, calls.many_call(seed=number))

    bad = BAD[name](calls.many_call())
    _calls.assert_refused(many, *bad.args, **bad.kwargs)
    assert_equal_or_refused(many, calls.many_call(mode="minus"))


@clause("RUN-42", may_refuse=True)
def test_random_numbers_are_those_of_eager(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    call = Call((normal(3, 4),))
    twins = pair(impl, cache, blocks.seeded(calls.Drawing), call)
    drawn = []
    for module in twins:
        torch.manual_seed(seed + 7)
        with torch.no_grad():
            drawn.append(attempt(partial(_twice, module, *call.args)))

    eager, applied = drawn
    if applied.error is None:
        # Other numbers would be far away; in float64 there are others.
        _threads.assert_near(applied.value, eager.value)
    elif not is_refusal(applied.error):
        raise applied.error


def _twice(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Call twice, and draw what the generator has next."""
    return [module(x), module(x), torch.rand(3, device=x.device)]
