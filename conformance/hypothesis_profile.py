"""The Hypothesis profile `aoti`: in force while clause modules are imported."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

MAX_EXAMPLES = 25


@contextlib.contextmanager
def loaded(config: pytest.Config) -> Iterator[None]:
    """Make `aoti` the profile of what is decorated in this block.

    A profile that the command line asks for is left in force. A test takes its
    settings when `@given` decorates it, so the block is all that is needed.
    """
    if config.getoption("hypothesis_profile", None):
        yield
        return
    from hypothesis import HealthCheck, settings  # not in foreign sessions

    settings.register_profile(
        "aoti",
        deadline=None,  # children are killed at the deadline of their clause
        database=None,
        print_blob=True,
        derandomize=False,
        max_examples=MAX_EXAMPLES,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
        ],
    )
    before = settings.get_current_profile_name()
    settings.load_profile("aoti")
    try:
        yield
    finally:
        settings.load_profile(before)


def sow(function: object, seed: int) -> None:
    """Make the examples of `function` follow from `seed`, if it is a property."""
    if getattr(function, "is_hypothesis_test", False):
        sys.modules["hypothesis"].seed(seed)(function)
