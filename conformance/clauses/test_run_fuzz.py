"""Chapter RUN: calls that nobody has thought of, in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

import fixtures
from conformance import fuzz
from conformance.clauses import _calls
from conformance.clauses._orders import Orders
from conformance.spec import clause
from conformance.strategies import perturbations

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache
    from conformance.fuzz import Subject
    from conformance.workbench import Pair

# Everybody compiles these; there are those that torch.export knows no way with.
PLAIN = ["stack", "many"]
SPECIAL = ["numbers", "chosen", "returned"]  # named tuples, enums, arguments returned


@pytest.fixture
def subject(request: pytest.FixtureRequest, seed: int) -> Subject:
    return fuzz.subjects()[request.param](seed)


@pytest.fixture
def twins(impl: Adapter, cache: PackageCache, subject: Subject) -> Pair:
    return fuzz.twins(impl, cache, subject)


@clause("RUN-39")
@pytest.mark.parametrize("subject", PLAIN, indirect=True)
@settings(max_examples=150)
@given(drawn=perturbations())
def test_perturbed_calls_are_noticed(
    twins: Pair, subject: Subject, drawn: tuple[str, int]
) -> None:
    _calls.assert_clean(twins, subject.call, *drawn)


@clause("RUN-39", may_refuse=True)
@pytest.mark.parametrize("subject", SPECIAL, indirect=True)
@settings(max_examples=150)
@given(drawn=perturbations())
def test_perturbed_calls_of_special_kinds_are_noticed(
    twins: Pair, subject: Subject, drawn: tuple[str, int]
) -> None:
    _calls.assert_clean(twins, subject.call, *drawn)


@clause("RUN-40", deadline_s=600)
@pytest.mark.parametrize("subject", fixtures.families(), indirect=True)
@settings(max_examples=40)
@given(drawn=perturbations())
def test_perturbed_calls_of_a_denoiser_are_noticed(
    twins: Pair, subject: Subject, drawn: tuple[str, int]
) -> None:
    _calls.assert_clean(twins, subject.call, *drawn)


@clause("RUN-41", deadline_s=600)
def test_any_order_of_steps_is_eagers(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    Orders.check(impl, cache, seed)
