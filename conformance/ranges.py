"""The suite's ranges as torch.export spells them, for adapters of such layers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.export import Dim
from torch.utils import _pytree as pytree

from conformance.adapter import Range, Refused

if TYPE_CHECKING:
    from torch import nn

    from conformance.adapter import Dynamic


def _dim(found: Range) -> Dim:
    try:
        return Dim(found.name, min=found.min, max=found.max)
    except AssertionError as error:  # torch's way to refuse it
        raise Refused(str(error)) from error


def dims(dynamic: Dynamic | None) -> dict[str, Any] | None:
    """Exchange every Range for a `torch.export.Dim`; one name gives one Dim.

    Args:
        dynamic: What `export` is given: arguments without ranges are left out.

    Raises:
        Refused: torch has no such range.
    """
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


def dynamic_shapes(
    module: nn.Module, call: Any, dynamic: Dynamic | None
) -> dict[str, Any] | None:
    """Spell ranges as the `dynamic_shapes` of `torch.export.export`.

    Every argument of the call stands in it in full: torch refuses a table that leaves
    one out, and a None in the place of a container without ranges.

    Args:
        module: What is exported.
        call: Its example, with `.args` and `.kwargs`.
        dynamic: What `export` is given.

    Raises:
        Refused: torch has no such range.
    """
    found = dims(dynamic)
    if found is None:
        return None
    given = inspect.signature(module.forward).bind(*call.args, **call.kwargs)
    for name, value in given.arguments.items():
        if found.get(name) is None:
            found[name] = pytree.tree_map(lambda _: None, value)
    return found
