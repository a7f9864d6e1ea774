"""Plain values that a module's code reads from its modules: `self.scale`, `self.heads`.

A graph has them baked in, so a module that has others is not the graph's.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from aoti_ref._call import spell_value
from aoti_ref._errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SCALARS = (bool, int, float, str, type(None))
TORCHS_OWN = frozenset({*vars(nn.Module()), "call_super_init"})
_GONE = object()


class Place(NamedTuple):
    """Where a plain value hangs, and what it must be: a copy, if it can change."""

    owner: dict[str, Any]
    key: str
    value: Any

    def holds(self) -> bool:
        """Whether the value is there still."""
        found = self.owner.get(self.key, _GONE)
        return found is self.value or _same(found, self.value)


@contextmanager
def reads(module: nn.Module) -> Iterator[dict[str, Any]]:
    """Note which plain values the code in the block reads from `module`, by name.

    Only what is read counts: a name or a path that a module carries about says
    nothing about its answers.
    """
    found: dict[str, Any] = {}
    names = {id(child): name for name, child in module.named_modules()}

    def watched(self: nn.Module, key: str) -> Any:
        value = object.__getattribute__(self, key)
        if key not in TORCHS_OWN and id(self) in names and is_plain(value):
            own: dict[str, Any] = object.__getattribute__(self, "__dict__")
            if own.get(key, _GONE) is value:
                path = f"{names[id(self)]}.{key}".lstrip(".")
                found.setdefault(path, copy.deepcopy(value))
        return value

    nn.Module.__getattribute__ = watched  # type: ignore[method-assign, assignment]
    try:
        yield found
    finally:
        del nn.Module.__getattribute__


def places(
    module: nn.Module, wanted: Mapping[str, Any]
) -> tuple[list[Place], tuple[Fault, ...]]:
    """Find where the values `wanted` hang in `module`, and which are others there."""
    children = dict(module.named_modules(remove_duplicate=False))
    found: list[Place] = []
    faults: list[Fault] = []
    for name, value in wanted.items():
        path, _, key = name.rpartition(".")
        owner = children[path].__dict__ if path in children else {}
        place, there = Place(owner, key, value), owner.get(key, _GONE)
        # By identity, which is quicker, for what cannot change in its place.
        fixed = place.holds() and _never_changes(there)
        found.append(place._replace(value=there) if fixed else place)
        if not place.holds():
            spelt = "none" if there is _GONE else spell_value(there)
            detail = f"wants {spell_value(value)}, found {spelt}"
            faults.append(Fault("value", name, detail))
    return found, tuple(faults)


def _never_changes(value: Any) -> bool:
    if type(value) is tuple:
        return all(map(_never_changes, value))
    return isinstance(value, _SCALARS)


def is_plain(value: Any) -> bool:
    """Whether a value is one that a package's manifest can hold."""
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(type(k) is str and is_plain(item) for k, item in value.items())
    return type(value) in _SCALARS


def _same(found: Any, wanted: Any) -> bool:
    """Whether two values are the same: types too, but that JSON has no tuples."""
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(found) == len(wanted)
            and all(map(_same, found, wanted))
        )
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(_same(found[key], wanted[key]) for key in wanted)
        )
    if type(found) is not type(wanted):
        return False
    return bool(found == wanted or (found != found and wanted != wanted))  # noqa: PLR0124  # NaN equals NaN
