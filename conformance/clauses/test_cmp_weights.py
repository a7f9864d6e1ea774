"""CMP: constants stay what they are: the module's, to be read at every call."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance.adapter import Call
from conformance.clauses import _compiles
from conformance.clauses._applied import unless_refused
from conformance.clauses._constants import unless_made
from conformance.models.blocks import WIDTH, Stack, call, hidden_states, normal, seeded
from conformance.models.compiling import (
    GREATER,
    LESSER,
    Checked,
    Counter,
    Gated,
    Layer,
    Sliced,
    Small,
    Tied,
    Writer,
    rows,
    uniform,
    untied,
    whole_numbers,
)
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    pair,
)

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@clause("CMP-05")
def test_parameters_that_were_all_zero_or_all_one_stay_parameters(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    def trained() -> Pair:
        compiled = cache.compiled(uniform(), rows())
        module = seeded(Gated, seed)
        return Pair(module, applied_copy(impl, compiled, module))

    assert_agrees_or_refuses(trained, [rows(), rows(seed=1)])


@clause("CMP-06")
def test_small_constants_stay_constants(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    def other() -> Pair:
        compiled = cache.compiled(seeded(Small, seed), rows())
        module = seeded(Small, seed + 1)
        return Pair(module, applied_copy(impl, compiled, module))

    assert_agrees_or_refuses(other, [rows(), rows(seed=1)])


@clause("CMP-07")
def test_buffers_that_the_graph_writes_keep_counting(
    impl: Adapter, cache: PackageCache
) -> None:
    x = Call((whole_numbers(2, 4),))

    _compiles.assert_same_history(
        lambda: pair(impl, cache, Counter().eval(), x), [x] * 3
    )


@clause("CMP-08")
@pytest.mark.parametrize(
    "shared", ["one tensor", "overlapping views", "nothing", "nothing, turned"]
)
def test_writes_into_arguments_are_eagers_or_refused(
    impl: Adapter, cache: PackageCache, shared: str
) -> None:
    flat = whole_numbers(12)
    arguments = {
        "one tensor": (flat[:8].clone().view(2, 4),) * 2,
        "overlapping views": (flat[:8].view(2, 4), flat[4:].view(2, 4)),
        "nothing": (flat[:8].clone().view(2, 4), flat[4:].clone().view(2, 4)),
        "nothing, turned": (flat[:8].clone().view(4, 2).t(), whole_numbers(2, 4)),
    }
    apart = Call(arguments["nothing"])

    _compiles.assert_same_history(
        lambda: pair(impl, cache, Writer().eval(), apart), [Call(arguments[shared])]
    )


@clause("CMP-08")
@pytest.mark.parametrize("rows_apart", [0, 1, 2])
def test_arguments_that_share_memory_and_no_storage_are_noticed(
    impl: Adapter, cache: PackageCache, rows_apart: int
) -> None:
    apart = Call((whole_numbers(2, 4), whole_numbers(2, 4)))

    def arguments() -> tuple[torch.Tensor, ...]:
        memory = whole_numbers(4, 4).numpy()
        slices = memory[:2], memory[rows_apart : rows_apart + 2]
        return tuple(torch.from_numpy(part) for part in slices)

    for twins in unless_made(lambda: pair(impl, cache, Writer().eval(), apart)):
        theirs, ours = arguments(), arguments()
        expected = twins.eager(*theirs)
        for actual in unless_refused(lambda: twins.applied(*ours)):  # noqa: B023
            assert torch.equal(actual, expected)
            assert all(map(torch.equal, ours, theirs))


@clause("CMP-09")
def test_buffers_that_are_slices_of_one_storage_compile(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    twins = pair(impl, cache, seeded(Sliced, seed), rows())

    assert_agrees(twins, rows(seed=1))


@clause("CMP-10")
@pytest.mark.parametrize("backwards", [False, True], ids=["same order", "other order"])
def test_tied_weights_are_found_under_either_name(
    impl: Adapter, cache: PackageCache, seed: int, *, backwards: bool
) -> None:
    compiled = cache.compiled(seeded(Tied, seed), rows())
    module = seeded(lambda: Tied(backwards=backwards), seed + 1)

    assert_agrees(Pair(module, applied_copy(impl, compiled, module)), rows())


@clause("CMP-10")
def test_a_broken_tie_is_answered_rightly_or_refused(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    def loosened() -> Pair:
        compiled = cache.compiled(seeded(Tied, seed), rows())
        module = untied(seed + 1)
        return Pair(module, applied_copy(impl, compiled, module))

    assert_agrees_or_refuses(loosened, [rows()])


@clause("CMP-11")
def test_two_models_of_one_graph_answer_with_their_own_weights(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    first = pair(impl, cache, seeded(Stack, seed), call())
    second = pair(impl, cache, seeded(Stack, seed + 1), call())

    for twins in (first, second, first, second):
        assert_agrees(twins, Call((), {"hidden_states": hidden_states(seed=seed)}))


@clause("CMP-14")
@pytest.mark.parametrize(
    ("lesser", "greater"), [(4, 8), (8, 8), (2, 16), (9, 8), (16, 2), (3, 2)]
)
@pytest.mark.parametrize("before", [[], [(4, 8), (3, 3)]], ids=["first", "later"])
def test_conditions_in_the_module_hold_in_compiled_code(
    impl: Adapter, cache: PackageCache, lesser: int, greater: int, before: Any
) -> None:
    def sized(x: int, y: int) -> Call:
        return Call((normal(x, WIDTH, seed=1), normal(y, WIDTH, seed=2)))

    dynamic = {"x": {0: LESSER}, "y": {0: GREATER}}

    assert_agrees_or_refuses(
        lambda: pair(impl, cache, seeded(Checked), sized(5, 7), dynamic=dynamic),
        [sized(*sizes) for sizes in (*before, (lesser, greater))],
    )


@clause("CMP-19")
@pytest.mark.usefixtures("cache")  # it keeps the compiler's headers
def test_weights_that_change_after_export_are_the_ones_that_answer(
    impl: Adapter, seed: int
) -> None:
    module = seeded(Layer, seed)
    exported = impl.export(copy.deepcopy(module), rows())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(-2.0)

    compiled = impl.compile(exported)

    assert_agrees(Pair(module, applied_copy(impl, compiled, module)), rows())


@clause("CMP-25")
def test_tuned_code_reads_the_modules_weights(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module, tuned = seeded(Stack, seed), {"max_autotune": True}

    def make() -> Pair:
        return pair(impl, cache, module, call(), options=tuned)

    for twins in unless_refused(make):
        assert_equal_or_refused(twins, call(seed=1))
        for each in twins:
            each.get_parameter("blocks.1.mlp.0.weight").mul_(-2)
        assert_equal_or_refused(twins, call(seed=1))
