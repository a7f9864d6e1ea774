"""Fixtures of chapter CST: a module with the constant in question, and its twin."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

from conformance.clauses._constants import applied_to
from conformance.models import constants
from conformance.workbench import Pair, assert_agrees

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

Make = Callable[[], nn.Module]


@pytest.fixture
def name() -> str:
    """The constant that a test is about; tests are parametrized with it."""
    return ""


@pytest.fixture
def make(seed: int, name: str) -> Make:
    """Give what makes a module that has the constant `name`."""
    return lambda: constants.constants(seed, name)


@pytest.fixture
def compiled(cache: PackageCache, make: Make) -> Any:
    """Give the compiled form of what `make` makes."""
    return cache.compiled(make(), constants.call())


@pytest.fixture
def twins(impl: Adapter, compiled: Any, make: Make) -> Pair:
    """Give a pair that was called: what is bound at the first call is bound."""
    made = applied_to(impl, compiled, make)
    assert_agrees(made, constants.call())
    return made
