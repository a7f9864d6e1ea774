"""The form of a call: what one graph can be for, with names for sizes that vary."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _tree
from aoti_ref._dynamic import read_ranges
from aoti_ref._export import argument_paths
from aoti_ref._hooks import inner_method
from aoti_ref._recording import leaf_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

    from aoti_ref._call import Call


def arguments(
    module: nn.Module, call: Call, *, method: str = "forward"
) -> dict[str, Any]:
    """Name the arguments of a call, as `export` does.

    Raises:
        TypeError: It does not fit the method.
    """
    signature = inspect.signature(getattr(module, inner_method(module, method)))
    bound = signature.bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return _tree.spread(signature, bound.arguments)


def given(calls: Iterable[Mapping[str, Any]]) -> set[str]:
    """Name the arguments that are not None in some of several calls."""
    return {name for call in calls for name, x in call.items() if x is not None}


def ranges(
    named: Mapping[str, Any], dynamic: Mapping[str, Any], elsewhere: set[str]
) -> dict[str, Any]:
    """Choose the ranges that are a call's: not those of what it leaves out.

    Args:
        named: Its arguments.
        dynamic: The ranges of several calls.
        elsewhere: The arguments that are not None in some of these.
    """
    return {
        name: table
        for name, table in dynamic.items()
        if name in named and (named[name] is not None or name not in elsewhere)
    }


def form(
    named: Mapping[str, Any], dynamic: Mapping[str, Any], kind: str
) -> tuple[Any, ...]:
    """Tell the form of a call, with names for the sizes that a range admits.

    Args:
        named: Its arguments.
        dynamic: Its ranges.
        kind: The module's class, for messages.

    Raises:
        UnknownArgument, BadRange, NotExportable: As `export` says.
    """
    leaves, spec = pytree.tree_flatten(dict(named))
    places = read_ranges(named, dynamic)
    found: list[Any] = [str(spec)]
    for path, leaf in zip(argument_paths(named, kind), leaves, strict=True):
        *rest, last = leaf_of(leaf)
        if isinstance(leaf, torch.Tensor):
            last = tuple(
                (at.__name__, at.min, at.max)
                if (at := places.get((path, dim))) and at.min <= size <= at.max
                else size
                for dim, size in enumerate(leaf.shape)
            )
        found.append((*rest, last))
    return tuple(found)
