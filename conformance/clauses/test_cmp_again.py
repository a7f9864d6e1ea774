"""CMP: graphs that write into arguments, called again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.adapter import Call
from conformance.clauses import _compiles
from conformance.models.compiling import Writer, whole_numbers
from conformance.spec import clause
from conformance.workbench import pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


def _apart() -> Call:
    return Call((whole_numbers(2, 4), whole_numbers(2, 4)))


def _one_tensor() -> Call:
    return Call((whole_numbers(2, 4),) * 2)


def _overlapping() -> Call:
    flat = whole_numbers(12)
    return Call((flat[:8].view(2, 4), flat[4:].view(2, 4)))


def _turned() -> Call:
    return Call((whole_numbers(4, 2).t(), whole_numbers(4, 2).t()))


@clause("CMP-08")
@pytest.mark.parametrize("last", [_one_tensor, _overlapping, _turned, _apart])
def test_writes_into_arguments_are_eagers_after_good_calls(
    impl: Adapter, cache: PackageCache, last: Callable[[], Call]
) -> None:
    _compiles.assert_same_history(
        lambda: pair(impl, cache, Writer().eval(), _apart()),
        [_apart(), _apart(), last()],
    )
