"""Mutants of the chapter REG: blocks whose numbers nobody has looked at."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from aoti_ref import _traits, _values
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant


def _unspelt(_value: Any) -> str:
    return ""


def _knows_no_libraries(*args: Any, **options: Any) -> Any:
    """Take all numbers that are none of Python's own for one."""
    with (
        patch.object(_values, "spelt", _unspelt),
        patch.object(_traits, "spelt", _unspelt),
    ):
        return reference.compile_regions(*args, **options)


REG_06_libraries = mutant(
    "REG-06", own_cache="libraries", compile_regions=_knows_no_libraries
)
