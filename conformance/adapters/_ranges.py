"""The suite's ranges as torch.export spells them, for adapters of torch.export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.export import Dim

from conformance.adapter import Range, Refused

if TYPE_CHECKING:
    from conformance.adapter import Dynamic


def _dim(found: Range) -> Dim:
    try:
        return Dim(found.name, min=found.min, max=found.max)
    except AssertionError as error:  # torch's way to refuse it
        raise Refused(str(error)) from error


def dims(dynamic: Dynamic | None) -> dict[str, Any] | None:
    """Exchange every Range for a Dim; one name gives one Dim."""
    if dynamic is None:
        return None
    known: dict[str, Dim] = {}

    def exchange(found: Any) -> Any:
        if isinstance(found, Range):
            root = known.setdefault(found.name, _dim(found))
            return root if found.times == 1 else found.times * root
        if isinstance(found, Mapping):
            return {key: exchange(value) for key, value in found.items()}
        if isinstance(found, (list, tuple)):
            return type(found)(exchange(value) for value in found)
        return found

    return {name: exchange(value) for name, value in dynamic.items()}
