"""The fuzz: what it makes of a call, and how it judges."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils import _pytree as pytree

from conformance import fuzz, fuzz_results
from conformance.adapter import Call
from conformance.models import blocks, calls
from conformance.perturb import KINDS, perturbed
from conformance.workbench import Pair

if TYPE_CHECKING:
    from collections.abc import Callable


SEEDS = range(8)


def many(change: Callable[..., Any] | None = None) -> Pair:
    """An eager Many and a copy of it, whose calls `change` makes."""
    eager, applied = (
        blocks.seeded(calls.Many).requires_grad_(requires_grad=False) for _ in range(2)
    )
    if change is not None:
        inner = applied.forward
        applied.forward = lambda *args, **kwargs: change(inner, args, kwargs)
    return Pair(eager, applied)


def judged(pair: Pair, kind: str) -> set[str]:
    told = [fuzz.judge(pair, calls.many_call(), kind, seed) for seed in SEEDS]
    return {entry.outcome for entry in told if entry is not None}


@pytest.mark.parametrize("claims", [{"dynamic"}, set()], ids=["claims", "does-not"])
def test_ranges_are_for_those_who_claim_them(claims: set[str]) -> None:
    given: list[Any] = []
    cache: Any = SimpleNamespace(compiled=lambda *_, dynamic: given.append(dynamic))
    impl: Any = SimpleNamespace(capabilities=claims, apply=lambda *_: None)
    subject = fuzz.subjects()["stack"](0)

    fuzz.twins(impl, cache, subject)

    assert given == [subject.dynamic if claims else None]
    assert subject.dynamic is not None


@pytest.mark.parametrize("kind", KINDS)
def test_perturbations_come_again_from_their_seed(kind: str) -> None:
    given = [
        (calls.Many(), calls.many_call()),
        (blocks.Stack(), blocks.call()),
        (calls.Optional(), Call((blocks.normal(3, 4), None))),
    ]
    made = [
        [perturbed(module, call, kind, seed) for _ in range(2)]
        for seed in SEEDS
        for module, call in given
    ]

    there = [pair for pair in made if None not in pair]
    assert there, f"{kind} makes nothing of any of these calls"
    for one, other in there:
        assert repr(_plain(one)) == repr(_plain(other))


def _plain(call: Any) -> Any:
    """Spell a call so that other objects of the same kind are spelt the same."""

    def spell(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        whole = leaf.layout is torch.strided and not (leaf.is_meta or leaf.is_quantized)
        values = leaf.detach().resolve_conj().resolve_neg().tolist() if whole else []
        return type(leaf).__name__, leaf.dtype, tuple(leaf.shape), str(values)

    tree = tuple(call.args), dict(call.kwargs)
    return pytree.tree_map_only(torch.Tensor, spell, tree)


@pytest.mark.parametrize("kind", [name for name in KINDS if KINDS[name].keeps])
def test_calls_that_keep_the_contract_are_answered_by_eager(kind: str) -> None:
    assert judged(many(), kind) <= {fuzz_results.EQUAL}


def test_eager_in_disguise_is_never_wrong() -> None:
    found = set().union(*(judged(many(), kind) for kind in KINDS))

    assert found == set(fuzz_results.CLEAN)


def _drifts(inner: Any, args: Any, kwargs: Any) -> Any:
    return inner(*args, **kwargs) + 1e-3


def _refuses(_inner: Any, _args: Any, _kwargs: Any) -> Any:
    raise ValueError("never")


def _stumbles(_inner: Any, _args: Any, _kwargs: Any) -> Any:
    return None.answer  # type: ignore[attr-defined]


def _answers(_inner: Any, _args: Any, _kwargs: Any) -> Any:
    return torch.zeros(5, 8)


def _writes(inner: Any, args: Any, kwargs: Any) -> Any:
    answer = inner(*args, **kwargs)
    args[0].add_(1)
    return answer


def _writes_and_refuses(_inner: Any, args: Any, _kwargs: Any) -> Any:
    args[0].add_(1)
    raise ValueError("never")


@pytest.mark.parametrize(
    ("change", "kind", "outcome"),
    [
        (_drifts, "as it is", fuzz_results.WRONG),
        (_refuses, "as it is", fuzz_results.FALSE),
        (_refuses, "dropped", fuzz_results.REFUSED),
        (_stumbles, "as it is", fuzz_results.UNNAMED),
        (_answers, "surplus", fuzz_results.WRONG),
        (_writes, "as it is", fuzz_results.WRONG),
        (_writes_and_refuses, "as it is", fuzz_results.WRONG),
    ],
)
def test_judgement(change: Callable[..., Any], kind: str, outcome: str) -> None:
    assert judged(many(change), kind) == {outcome}


def test_plan_is_spread_and_comes_again() -> None:
    drawn = list(fuzz.plan(["a", "b"], 400, seed=3))

    assert drawn == list(fuzz.plan(["a", "b"], 400, seed=3))
    assert drawn != list(fuzz.plan(["a", "b"], 400, seed=4))
    assert [case.subject for case in drawn] == ["a", "b"] * 200
    assert {case.kind for case in drawn} == set(KINDS)
