"""Plain values that a module's code reads from its modules: `self.scale`, `self.heads`.

A graph has them baked in, so a module that has others is not the graph's.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from aoti_ref import _values
from aoti_ref._errors import Fault
from aoti_ref._reading import Reading
from aoti_ref._values import GONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TORCHS_OWN = frozenset({*vars(nn.Module()), "call_super_init"})
# What hooks and `apply` exchange.
_METHODS = frozenset({"forward", "_old_forward", "_hf_hook", "_diffusers_hook"})
_UNSEEN = object()


class Place(NamedTuple):
    """Where a plain value hangs, and what it must be: a copy, if it can change.

    Args:
        owner: The attributes of a module.
        kind: Its class, which has the value where the module has none of its own.
        key: The name of the attribute.
        value: What it must be, as a manifest has it.
        seen: The object itself, by which to know it quickly, if it cannot change.
    """

    owner: dict[str, Any]
    kind: type | None
    key: str
    value: Any
    seen: Any = _UNSEEN

    def holds(self) -> bool:
        """Whether the value is there still."""
        if self.owner.get(self.key, GONE) is self.seen:
            return True
        return _values.same(self.get(), self.value)

    def get(self) -> Any:
        """Give what is there."""
        found = self.owner.get(self.key, GONE)
        return getattr(self.kind, self.key, GONE) if found is GONE else found


class Read(NamedTuple):
    """The plain values that code has read from a module, by name.

    Args:
        values: As a manifest has them.
        counted: The numbers among them that the code has then set to others.
    """

    values: dict[str, Any]
    counted: set[str]


@contextmanager
def reads(module: nn.Module) -> Iterator[Read]:
    """Note which plain values the code in the block reads from `module`.

    Only what is read counts: a name or a path that a module carries about says
    nothing about its answers.
    """
    found: dict[str, Any] = {}
    counted: set[str] = set()
    names = {id(child): name for name, child in module.named_modules()}

    def watched(self: nn.Module, key: str) -> Any:
        value = object.__getattribute__(self, key)
        if key not in TORCHS_OWN and id(self) in names and _is_own(self, key, value):
            path = f"{names[id(self)]}.{key}".lstrip(".")
            if reading.follow(path, value):
                return value
            form = _values.written(value)
            if form is not GONE:
                found.setdefault(path, form)
        return value

    set_as_before = nn.Module.__setattr__

    def noted(self: nn.Module, key: str, value: Any) -> None:
        path = f"{names.get(id(self), '')}.{key}".lstrip(".")
        numbers = (bool, int, float)
        if isinstance(value, numbers) and isinstance(found.get(path), numbers):
            if value == found[path]:  # as when export puts back what was
                counted.discard(path)
            else:
                counted.add(path)
        set_as_before(self, key, value)

    with Reading() as reading:
        nn.Module.__getattribute__ = watched  # type: ignore[method-assign, assignment]
        nn.Module.__setattr__ = noted  # type: ignore[method-assign, assignment]
        try:
            yield Read(found, counted)
        finally:
            del nn.Module.__getattribute__
            nn.Module.__setattr__ = set_as_before  # type: ignore[method-assign]
            found.update(reading.found())


def _is_own(module: nn.Module, key: str, value: Any) -> bool:
    """Whether `value` is what a module, or a class of it, has under `key` as data."""
    if key in _METHODS:
        return False
    own: dict[str, Any] = object.__getattribute__(module, "__dict__")
    kinds = type(module).__mro__
    if key in own:
        method = _values.is_function(value) and any(key in vars(kind) for kind in kinds)
        return own[key] is value and not method
    if key.startswith("_") or callable(value):
        return False
    kind = next((kind for kind in kinds if key in vars(kind)), nn.Module)
    theirs = kind.__module__.split(".")[0] != "torch"
    return theirs and vars(kind).get(key, GONE) is value


def places(
    module: nn.Module, wanted: Mapping[str, Any]
) -> tuple[list[Place], tuple[Fault, ...]]:
    """Find where the values `wanted` hang in `module`, and which are others there."""
    children = dict(module.named_modules(remove_duplicate=False))
    found: list[Place] = []
    faults: list[Fault] = []
    for name, value in wanted.items():
        path, _, key = name.rpartition(".")
        child = children.get(path)
        owner, kind = (child.__dict__, type(child)) if child is not None else ({}, None)
        place = Place(owner, kind, key, value)
        there, holds = place.get(), place.holds()
        # By identity, which is quicker, for what cannot change in its place.
        fixed = holds and _values.never_changes(there)
        found.append(place._replace(seen=there) if fixed else place)
        if not holds:
            differing = _values.differences(name, there, value)
            faults += [Fault("value", path, detail) for path, detail in differing]
    return found, tuple(faults)
