"""Chapter VAR: which graph answers a call, and which calls none of them does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given

from conformance.adapter import Call
from conformance.clauses import _threads, _variants
from conformance.clauses._applied import unless_refused
from conformance.clauses._regions import assert_blocks_agree, state
from conformance.models import blocks, regions, variants
from conformance.models.blocks import normal
from conformance.spec import clause
from conformance.strategies import sizes
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees,
    assert_answers,
    assert_equal_or_refused,
    ran_compiled,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.adapter import Adapter
    from conformance.adapter_graphs import Variants
    from conformance.cache import PackageCache


@pytest.fixture
def twins(cache: PackageCache, seed: int) -> Pair:
    return _variants.on_a_copy(cache, seed)


@pytest.fixture
def counting(cache: PackageCache, seed: int) -> Pair:
    return _variants.on_a_copy(cache, seed, variants.Counting)


@clause("VAR-01")
@pytest.mark.parametrize("draw", range(3))
def test_each_call_is_answered_by_its_graph(twins: Pair, draw: int) -> None:
    _variants.assert_all_agree(twins, [draw])


@clause("VAR-01")
def test_each_call_is_answered_at_every_size(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = _variants.mixed(seed)
    compiled, lengths = _variants.ranged(cache, seed)
    twins = Pair(module, applied_copy(impl, compiled, module))

    for tokens in lengths:
        assert_agrees(twins, variants.call(tokens))
        assert_agrees(twins, variants.double_call(tokens))


@clause("VAR-02")
def test_another_dtype_is_another_domain(twins: Pair) -> None:
    for make in (variants.call, variants.double_call, variants.call):
        assert_agrees(twins, make())


@clause("VAR-02")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_a_dtype_of_no_graph_is_noticed(twins: Pair, dtype: torch.dtype) -> None:
    x = variants.call().args[0].to(dtype)

    assert_equal_or_refused(twins, Call((x,)))


@clause("VAR-03")
@given(tokens=sizes(variants.TOKENS))
def test_every_dimension_counts_in_the_choice(twins: Pair, tokens: int) -> None:
    assert_agrees(twins, variants.double_call(tokens, seed=tokens))
    assert_agrees(twins, variants.call(seed=tokens))


@clause("VAR-04")
def test_an_argument_that_is_there_tells_graphs_apart(twins: Pair) -> None:
    for _ in range(2):
        assert_agrees(twins, variants.call())
        assert_agrees(twins, variants.masked_call())
        assert_agrees(twins, variants.call(mask=None))


def named(call: Call) -> Call:
    return Call((), {"x": call.args[0], **call.kwargs})


def turned(call: Call) -> Call:
    return Call((), {**call.kwargs, "x": call.args[0]})


def spelt_out(call: Call) -> Call:
    return Call(call.args, {"scale": 0.5, **call.kwargs})


def by_position(call: Call) -> Call:
    return Call((*call.args, call.kwargs.get("mask"), 0.5), {})


@clause("VAR-05")
@pytest.mark.parametrize("spell", [named, turned, spelt_out, by_position])
def test_the_spelling_of_a_call_is_no_matter(
    twins: Pair, spell: Callable[[Call], Call]
) -> None:
    for call in variants.each_form():
        assert_agrees(twins, spell(call))


@clause("VAR-06")
@pytest.mark.parametrize("make", variants.BETWEEN.values(), ids=variants.BETWEEN)
def test_a_call_between_domains_is_refused(
    twins: Pair, make: Callable[[], Call]
) -> None:
    call = make()

    with torch.no_grad(), refuses():
        twins.applied(*call.args, **call.kwargs)


@clause("VAR-07")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: variants.call(9), [r"\b6\b", r"\b9\b", "float64"]),
        (lambda: variants.masked_call(width=7), ["mask", r"\b7\b", "float64"]),
        (lambda: variants.double_call(3), ["float32", r"\b3\b", r"\b6\b"]),
    ],
    ids=["longer", "narrower mask", "other"],
)
def test_the_refusal_tells_every_domain(
    twins: Pair, make: Callable[[], Call], words: list[str]
) -> None:
    call = make()

    with torch.no_grad(), refuses() as refusal:
        twins.applied(*call.args, **call.kwargs)

    assert [word for word in words if not re.search(word, str(refusal))] == []


@clause("VAR-08")
def test_the_first_in_order_answers(
    impl: Variants, cache: PackageCache, seed: int
) -> None:
    module = _variants.mixed(seed)
    models = [_variants.two_forms(cache, seed), _variants.shifted(cache, seed)]

    for twin in unless_refused(
        lambda: applied_copy(impl, impl.combine(models), module)
    ):
        other = blocks.seeded(variants.Shifted, seed)
        asked = [(eager, variants.call(n)) for eager, n in ((module, 6), (other, 16))]
        with torch.no_grad(), ran_compiled(twin):
            found = [twin(*call.args) for _, call in (*asked, asked[0])]
        for answer, (eager, call) in zip(found, (*asked, asked[0]), strict=True):
            assert_answers(answer, eager, call)


def twice(cache: PackageCache, seed: int) -> list[Any]:
    return [_variants.two_forms(cache, seed)] * 2


def behind_a_range(cache: PackageCache, seed: int) -> list[Any]:
    return [_variants.shifted(cache, seed), _variants.two_forms(cache, seed)]


@clause("VAR-09")
@pytest.mark.parametrize(
    ("make", "words"), [(twice, [r"\b6\b"]), (behind_a_range, [r"\b6\b", r"\b24\b"])]
)
def test_a_graph_that_never_answers_is_told(
    impl: Variants,
    cache: PackageCache,
    seed: int,
    make: Callable[[PackageCache, int], list[Any]],
    words: list[str],
) -> None:
    models = make(cache, seed)
    ends = words if "dynamic" in impl.capabilities else words[:1]  # of no range

    with refuses() as refusal:
        impl.apply(impl.combine(models), _variants.mixed(seed))

    assert [word for word in ends if not re.search(word, str(refusal))] == []


@clause("VAR-14", may_refuse="setup")  # CST-16 lets a module that counts be refused
def test_one_graph_runs_for_each_call(counting: Pair) -> None:
    for count in range(3):
        for number, call in enumerate(variants.each_form(count)):
            counting.applied(*call.args, **call.kwargs)
            assert _variants.seen(counting.applied) == 3 * count + number + 1


@clause("VAR-14", may_refuse="setup")
def test_a_call_that_is_refused_runs_none(counting: Pair) -> None:
    for make in variants.BETWEEN.values():
        call = make()
        with torch.no_grad(), refuses():
            counting.applied(*call.args, **call.kwargs)

    assert _variants.seen(counting.applied) == 0


@clause("VAR-16")
def test_a_failed_build_is_a_refusal(impl: Variants, seed: int) -> None:
    module = _variants.mixed(seed)
    before = state(module)

    with refuses():
        impl.compile_variants(module, [variants.call(), variants.masked_call(width=7)])

    assert state(module) == before


@clause("VAR-17")
def test_every_call_that_was_given_is_in_a_domain(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = _variants.mixed(seed)
    twin = applied_copy(impl, _variants.two_forms(cache, seed), module)

    for call in (variants.call(), variants.call(seed=1), variants.masked_call()):
        assert_agrees(Pair(module, twin), call)


@clause("VAR-18")
def test_after_a_refusal_the_next_call_finds_its_graph(twins: Pair) -> None:
    for number, make in enumerate(variants.BETWEEN.values()):
        call = make()
        with torch.no_grad(), refuses():
            twins.applied(*call.args, **call.kwargs)
        assert_agrees(twins, variants.FORMS[number % 3](seed=number))


@clause("VAR-19")
def test_threads_choose_for_themselves(twins: Pair) -> None:
    _threads.assert_answered(
        [
            _threads.Caller(
                [(twins.applied, twins.eager)],
                [variants.FORMS[(n + k) % 3](seed=25 * n + k) for k in range(25)],
            )
            for n in range(8)
        ]
    )


@clause("VAR-24")
def test_blocks_called_in_several_forms_have_several_graphs(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(variants.Reused, seed)
    compiled = cache.regions(blocks.seeded(variants.Reused, seed), regions.call())
    twins = Pair(module, applied_copy(impl, compiled, module))

    for draw in range(2):
        assert_blocks_agree(twins, regions.call(seed=draw))


@clause("VAR-24")
@pytest.mark.parametrize("name", ["cells.0", "cells.1"])
def test_each_block_has_its_weights_in_every_form(
    impl: Adapter, cache: PackageCache, seed: int, name: str
) -> None:
    module = blocks.seeded(variants.Reused, seed)
    compiled = cache.regions(blocks.seeded(variants.Reused, seed), regions.call())
    applied: nn.Module = applied_copy(impl, compiled, module)
    pair = Pair(module.get_submodule(name), applied.get_submodule(name))
    x = regions.call(seed=1).kwargs["hidden_states"]

    assert_agrees(pair, Call((x,), {}))
    assert_agrees(pair, Call((x,), {"mask": normal(8)}))
