"""How the reference chooses among graphs: quickly, as its checks would, and told."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

import aoti_ref
from aoti_ref._check import Checker
from aoti_ref._contract import Contract, Size, Symbol, TensorSpec, ValueSpec
from aoti_ref._derive import derive
from aoti_ref._domains import spell, takers
from conformance.adapter import Call
from conformance.models import blocks, calls, variants
from conformance.perturb import KINDS, perturbed
from conformance.ranges import dims

SEEDS = range(6)


def contract(
    *sizes: int | Size,
    conditions: tuple[str, ...] = (),
    flag: Any = None,
    **ranges: Any,
) -> Contract:
    """Make the contract of `(x: float32[sizes], flag)`."""
    spec = TensorSpec("float32", "cpu", sizes, tuple(range(len(sizes))))
    return Contract(
        module="Net",
        arguments={"x": "*", "flag": "*"},
        leaves=(spec, ValueSpec(flag)),
        symbols={name: Symbol(name, *ends) for name, ends in ranges.items()},
        conditions=conditions,
        outputs=("float32",),
        result="",
        mutates_inputs=False,
        fixed={},
        writes=(),
    )


A, B = Size("a"), Size("b")


@pytest.mark.parametrize(
    ("domain", "before", "found"),
    [
        (contract(2, 4), [contract(2, 4)], [0]),
        (contract(2, 4), [contract(2, 5), contract(2, A, a=(2, 8))], [1]),
        (contract(2, 4), [contract(2, 4, flag=True)], []),
        (contract(2, 4, flag=1), [contract(2, 4, flag=True)], []),
        (contract(2, 4), [contract(2, 4, 1)], []),
        (contract(A, a=(2, 8)), [contract(4)], []),
        (contract(A, a=(2, 8)), [contract(A, a=(3, 9))], []),
        (contract(A, a=(2, 8)), [contract(A, a=(2, 5)), contract(A, a=(6, 9))], [0, 1]),
        (contract(A, a=(2, 8)), [contract(A, a=(2, 4)), contract(A, a=(6, 9))], []),
        (contract(A, B, a=(2, 8), b=(2, 8)), [contract(A, A, a=(2, 8))], []),
        (contract(A, A, a=(2, 8)), [contract(A, B, a=(2, 8), b=(2, 8))], [0]),
        (contract(Size("a", 4), a=(1, 4)), [contract(Size("a", 2), a=(2, 8))], [0]),
        (contract(Size("a", 2), a=(2, 8)), [contract(Size("a", 4), a=(1, 4))], []),
        (contract(A, a=(2, 99)), [contract(A, a=(2, 99), conditions=("a < 60",))], []),
        (
            contract(A, a=(2, 99), conditions=("a % 8 == 0",)),
            [contract(Size("a", 8), a=(1, 20))],
            [0],
        ),
    ],
)
def test_domains_that_hold_others_are_found(
    domain: Contract, before: list[Contract], found: list[int]
) -> None:
    assert takers(domain, before) == found


def test_domains_are_spelt() -> None:
    domain = contract(2, Size("a", 2), flag=True, a=(2, 8), conditions=("a < 7",))

    assert spell(domain) == "(x: float32[2, 2*a], flag = True), a in 2..8, a < 7"


def many() -> tuple[Any, Call, Any]:
    return blocks.seeded(calls.Many), calls.many_call(), calls.DYNAMIC


def optional() -> tuple[Any, Call, Any]:
    call = Call((blocks.normal(3, 4),), {"plus": blocks.normal(3, 4, seed=1)})
    return blocks.seeded(calls.Optional), call, None


def chosen() -> tuple[Any, Call, Any]:
    return blocks.seeded(calls.Chosen), calls.chosen_call(), None


@pytest.mark.parametrize("make", [many, optional, chosen])
def test_plans_take_what_checks_take(make: Any) -> None:
    module, call, dynamic = make()
    program = aoti_ref.export(module, call, dynamic=dims(dynamic))
    check = Checker(derive(program, "Net"), inspect.signature(module.forward), "Net")
    taken = []
    for kind in KINDS:
        for seed in SEEDS:
            given = perturbed(module, call, kind, seed)
            if given is None:
                continue
            plan = check.draw(given.args, given.kwargs)
            assert plan is not None
            quick = plan([*given.args, *given.kwargs.values()])
            slow, _ = check.attempt(given.args, given.kwargs)
            assert (quick is None) == (slow is None), f"{kind} {seed}: {given}"
            taken.append(quick is not None)
    assert True in taken
    assert False in taken


def recorded(call: Call) -> aoti_ref.Call:
    return aoti_ref.Call(call.args, call.kwargs)


def test_exports_are_compared_before_anything_is_compiled() -> None:
    module = blocks.seeded(variants.Mixed)
    wide = {"x": {1: torch.export.Dim("tokens", min=4, max=24)}}

    with pytest.raises(aoti_ref.DeadVariant):
        aoti_ref.compile_variants(
            module,
            [recorded(variants.call(8)), recorded(variants.call(6))],
            dynamic=[wide, None],
        )


def test_calls_that_fail_are_all_named() -> None:
    module = blocks.seeded(variants.Mixed)
    made = variants.call(), variants.masked_call(width=7), Call((), {"y": 1})
    given = [recorded(call) for call in made]

    with pytest.raises(aoti_ref.FailedVariants) as caught:
        aoti_ref.compile_variants(module, given)

    assert [fault.name for fault in caught.value.faults] == ["calls[1]", "calls[2]"]


def test_an_argument_that_is_nowhere_is_refused() -> None:
    module = blocks.seeded(variants.Mixed)

    with pytest.raises(aoti_ref.UnknownArgument):
        aoti_ref.compile_variants(
            module, [recorded(variants.call())], dynamic={"y": {0: (2, 3)}}
        )
