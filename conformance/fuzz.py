"""The fuzz: calls that are almost right, each of them equal to eager or refused."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

import fixtures
from conformance import pipelines
from conformance.fuzz_results import EQUAL, FALSE, REFUSED, UNNAMED, WRONG, Case
from conformance.models import blocks, calls
from conformance.parity import assert_parity, assert_same_form, truth
from conformance.perturb import KINDS, perturbed
from conformance.workbench import Pair, applied_copy, attempt, is_refusal, same_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from conformance.adapter import Adapter, Dynamic
    from conformance.cache import PackageCache

_CLOSE = 1e-6  # relative; well inside the margin of every dtype


class Subject(NamedTuple):
    """A module, a good call of it, and the ranges of its sizes."""

    module: nn.Module
    call: Any
    dynamic: Dynamic | None = None


class Told(NamedTuple):
    """What became of a case: one of OUTCOMES, and the reason."""

    outcome: str
    detail: str = ""


def subjects() -> dict[str, Callable[[int], Subject]]:
    """Make what is fuzzed, by name: small modules, and the families' denoisers."""
    small: dict[str, Callable[[int], Subject]] = {
        "stack": lambda seed: Subject(
            blocks.seeded(blocks.Stack, seed),
            blocks.call(seed=seed),
            {"hidden_states": {1: blocks.TOKENS}},
        ),
        "many": lambda seed: Subject(
            blocks.seeded(calls.Many, seed), calls.many_call(seed=seed), calls.DYNAMIC
        ),
        "numbers": lambda seed: Subject(
            blocks.seeded(calls.Chosen, seed), calls.numbers_call(seed)
        ),
        "chosen": lambda seed: Subject(
            blocks.seeded(calls.Chosen, seed), calls.chosen_call(seed)
        ),
        "returned": lambda seed: Subject(
            blocks.seeded(calls.Returned, seed), calls.returned_call(seed)
        ),
    }
    return small | {name: _denoiser(name) for name in fixtures.families()}


def _denoiser(name: str) -> Callable[[int], Subject]:
    def make(_seed: int) -> Subject:
        case = pipelines.load(name)
        call = case.first_call()
        return Subject(case.module.requires_grad_(requires_grad=False), call)

    return make


def plan(names: list[str], count: int, seed: int) -> Iterator[Case]:
    """Draw `count` cases, spread evenly over the subjects."""
    for number in range(count):
        yield _drawn(names[number % len(names)], f"{seed} {number}")


def another(case: Case) -> Case:
    """Draw a case in the place of one that nothing can be made of."""
    return _drawn(case.subject, f"{case.kind} {case.seed}")


def _drawn(subject: str, text: str) -> Case:
    draw = random.Random(text)  # noqa: S311  # it is for repeating
    return Case(subject, draw.choice(list(KINDS)), draw.randrange(2**31))


def twins(impl: Adapter, cache: PackageCache, subject: Subject) -> Pair:
    """Compile a subject, or take it from the cache, and apply it to a copy."""
    source = copy.deepcopy(subject.module)
    claimed = "dynamic" in impl.capabilities
    dynamic = subject.dynamic if claimed else None
    compiled = cache.compiled(source, subject.call, dynamic=dynamic)
    return Pair(subject.module, applied_copy(impl, compiled, subject.module))


def judge(pair: Pair, call: Any, kind: str, seed: int) -> Told | None:
    """Make one perturbed call of both modules, and compare what came of it.

    Args:
        pair: An eager module, and its compiled twin; neither wants gradients.
        call: A good call.
        kind: A key of `perturb.KINDS`.
        seed: For its choices.

    Returns:
        None where `kind` can make nothing of `call`, or eager nothing of that.
    """
    given = [perturbed(pair.eager, call, kind, seed) for _ in range(3)]
    for_eager, for_applied, fresh = given
    if for_eager is None or for_applied is None or fresh is None:
        return None
    expected = attempt(lambda: pair.eager(*for_eager.args, **for_eager.kwargs))
    actual = attempt(lambda: pair.applied(*for_applied.args, **for_applied.kwargs))
    if actual.error is not None:
        unchanged = _memories(for_applied) == _memories(fresh)
        good = KINDS[kind].keeps and expected.error is None
        named = is_refusal(actual.error) or same_error(actual, expected)
        return _refusal(actual.error, good=good, named=named, unchanged=unchanged)
    if expected.error is not None:
        detail = f"{type(expected.error).__name__}: {expected.error}"
        return Told(WRONG, f"answered, where eager raises {detail}")
    if _read_from_nowhere(for_eager, expected.value):
        return None  # eager's answer is whatever was in memory
    told = _comparison(actual.value, expected.value, pair.eager, fresh)
    if told.outcome == EQUAL and _memories(for_applied) != _memories(for_eager):
        return Told(WRONG, "its arguments are not what eager makes of them")
    return told


def _refusal(error: Exception, *, good: bool, named: bool, unchanged: bool) -> Told:
    """Judge a call that was not answered."""
    detail = f"{type(error).__name__}: {error}"
    if not named:
        return Told(UNNAMED, detail)
    if not unchanged:
        return Told(WRONG, f"refused, with its arguments changed: {detail}")
    return Told(FALSE, detail) if good else Told(REFUSED)


def _comparison(actual: Any, expected: Any, module: nn.Module, call: Any) -> Told:
    """Judge a call that was answered."""
    try:
        _compare(actual, expected, module, call)
    except AssertionError as error:
        return Told(WRONG, str(error))
    return Told(EQUAL)


def _compare(actual: Any, expected: Any, module: nn.Module, call: Any) -> None:
    assert_same_form(actual, expected, strides=False)
    pairs = list(zip(_tensors(actual), _tensors(expected), strict=True))
    if any(want.requires_grad and not got.requires_grad for got, want in pairs):
        message = "the result has lost the gradients that eager's has"
        raise AssertionError(message)
    if any(wanted.is_meta for _, wanted in pairs) or all(_close(*p) for p in pairs):
        return
    exact = attempt(lambda: truth(module, call))
    if exact.error is None:
        assert_parity(actual, expected, exact.value, strides=False)
    else:  # not all that eager takes can be widened
        for found, wanted in pairs:
            torch.testing.assert_close(found, wanted, equal_nan=True)


def _read_from_nowhere(call: Any, result: Any) -> bool:
    """Whether tensors without values went in, and some with values came out."""
    given = _tensors((tuple(call.args), dict(call.kwargs)))
    values = [x for x in _tensors(result) if not x.is_meta]
    return bool(values) and any(x.is_meta for x in given)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [x for x in pytree.tree_leaves(tree) if isinstance(x, torch.Tensor)]


def _close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    if not (wanted.is_floating_point() or wanted.is_complex()):
        return torch.equal(found, wanted)
    there = wanted[wanted.isfinite()]
    size = there.abs().square().mean().sqrt().item() if there.numel() else 0.0
    return torch.allclose(found, wanted, rtol=0, atol=_CLOSE * size, equal_nan=True)


def _memories(call: Any) -> list[bytes]:
    """Copy all memory that the tensors of a call stand on, around them too."""
    return [
        torch.empty(0, dtype=torch.uint8)
        .set_(tensor.untyped_storage().cpu())  # type: ignore[no-untyped-call]
        .numpy()
        .tobytes()
        for tensor in _tensors((tuple(call.args), dict(call.kwargs)))
        if tensor.layout is torch.strided and not tensor.is_meta
    ]
