"""Mutants of the chapter REG: blocks whose numbers nobody has looked at."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from aoti_ref import _traits, _values
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant


def _unspelt(_value: Any) -> str:
    return ""


def _knowing_none(verb: Any) -> Any:
    """Take all numbers that are none of Python's own for one."""

    def unknowing(*args: Any, **options: Any) -> Any:
        with (
            patch.object(_values, "spelt", _unspelt),
            patch.object(_traits, "spelt", _unspelt),
        ):
            return verb(*args, **options)

    return unknowing


REG_06_libraries = mutant(
    "REG-06",
    own_cache="libraries",
    compile_regions=_knowing_none(reference.compile_regions),
    apply=_knowing_none(reference.apply),
)
