"""Tensors in lists, dicts, objects and other tensors, for which a graph has no name.

torch.export takes them for literals of the code. Where one hangs is noted here, so
that `apply` can bind what the module has in that place. A dict may be a memo that is
filled as the module goes: where its key is missing, the literal stands.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from aoti_ref import _values
from aoti_ref._errors import Fault
from aoti_ref._traits import spell_kind
from aoti_ref._weights import faults_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from aoti_ref._weights import Constant

_NESTING = 6  # how deep tensors are looked for in containers of containers
# "attribute", "key", "index" or "entry", and which: an entry's key is spelt as
# `_values.key_of` does it.
Step = tuple[str, Any]


class Place(NamedTuple):
    """A way to a tensor: the name of a child, and what to look up from there on.

    Args:
        child: The dotted name of a child.
        steps: What to look up, one after the other.
        whole: For a tensor within another, what that one is made like; it is what
            the first two steps lead to.
    """

    child: str
    steps: tuple[Step, ...]
    whole: str = ""

    def spell(self) -> str:
        """Spell the way: `blocks.0.tables['rope']`, `blocks.0.proj.weight.qdata`."""
        text, steps = self.child, self.steps
        if self.whole:
            text, steps = self.spell_whole(), steps[2:]
        for kind, key in steps:
            spelt = _values.spell_key(key) if kind == "entry" else repr(key)
            text += f".{key}" if kind == "attribute" else f"[{spelt}]"
        return text.lstrip(".")

    def spell_whole(self) -> str:
        """Spell the way to the tensor that holds this one: `blocks.0.proj.weight`."""
        return f"{self.child}.{self.steps[1][1]}".lstrip(".")

    def get(self, module: nn.Module) -> torch.Tensor | None:
        """Give the tensor that `module` has there."""
        return self._find(module, self.steps)

    def misfit(self, module: nn.Module) -> str:
        """Say what is made in another way than it should be, if anything is."""
        if not self.whole:
            return ""
        found = self._find(module, self.steps[:2])
        made = "nothing" if found is None else spell_kind(found)
        return "" if made == self.whole else f"wants {self.whole}, found {made}"

    def _find(self, module: nn.Module, steps: Sequence[Step]) -> torch.Tensor | None:
        found: Any = module
        try:
            for name in filter(None, self.child.split(".")):
                found = found._modules[name]
            for kind, key in steps:
                found = _step(found, kind, key)
        except (AttributeError, LookupError, TypeError):
            return None
        return found if isinstance(found, torch.Tensor) else None

    def optional(self) -> bool:
        """Whether the tensor may be missing: a dict may remember it later."""
        return self.steps[-1][0] in ("key", "entry")


def _step(value: Any, kind: str, key: Any) -> Any:
    if kind == "attribute":
        return _values.attribute(value, key)
    return _values.item(value, key) if kind == "entry" else value[key]


def places(
    module: nn.Module, literals: Mapping[str, torch.Tensor]
) -> dict[str, list[Place]]:
    """Find the places in containers of `module` where a graph's literals hang."""
    names = {t.data_ptr(): name for name, t in literals.items() if t.numel()}
    found: dict[str, list[Place]] = {}
    if not names:
        return found
    seen = {id(child) for child in module.modules()}
    own = frozenset(vars(nn.Module()))
    for child_name, child in module.named_modules():
        for key, value in vars(child).items():
            if key in own:
                continue
            for steps, tensor in _inside(value, (("attribute", key),), seen):
                plain = tensor.layout is torch.strided
                name = names.get(tensor.data_ptr()) if plain else None
                if name is not None:
                    found.setdefault(name, []).append(Place(child_name, steps))
    return found


def resolve(
    module: nn.Module,
    constants: Sequence[Constant],
    places: Mapping[str, Place],
    *,
    offloaded: bool = False,
    seen: Collection[str] = (),
) -> tuple[dict[str, torch.Tensor | None], list[Fault]]:
    """Find what `module` has in `places`, and hold it to the graph.

    Args:
        module: With the containers.
        constants: Of the graph.
        places: Where they hang, by name.
        offloaded: Whether they are away, and come back for the call.
        seen: Those that the module had before: what it remembers it does not forget.

    Returns:
        The tensors by the names of their constants, None where a literal is to
        stand in; and what is missing or does not fit.
    """
    found = {name: place.get(module) for name, place in places.items()}
    faults: list[Fault] = []
    told: set[str] = set()
    for constant in constants:
        place = places.get(constant.name)
        name = constant.name
        missing = found.get(name) is None and name not in seen
        if place is not None and not (place.optional() and missing):
            misfit = place.misfit(module)
            if misfit:
                whole = place.spell_whole()
                faults += [] if whole in told else [Fault("type", whole, misfit)]
                told.add(whole)
                continue
            spoken = constant._replace(name=place.spell())
            tensors = {spoken.name: found[name]}
            faults += faults_of(spoken, tensors, offloaded=offloaded)
    return found, faults


def _inside(
    value: Any, steps: tuple[Step, ...], seen: set[int]
) -> Iterator[tuple[tuple[Step, ...], torch.Tensor]]:
    """Give the tensors in a container, or in the attributes of an object."""
    if isinstance(value, type) or id(value) in seen or len(steps) > _NESTING:
        return
    for kind, key, item in _items(value):
        further = (*steps, (kind, key))
        if isinstance(item, torch.Tensor):
            yield further, item
        else:
            yield from _inside(item, further, seen | {id(value)})


def _items(value: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(value, dict):
        return [
            ("key", k, v) if type(k) in (str, int) else ("entry", _values.key_of(k), v)
            for k, v in value.items()
        ]
    if isinstance(value, (list, tuple, deque)):
        return [("index", index, item) for index, item in enumerate(value)]
    own = getattr(value, "__dict__", None)
    held = dict(own) if type(own) is dict else {}
    if isinstance(value, partial):
        held |= {"args": value.args, "keywords": value.keywords}
    held |= {
        name: _values.attribute(value, name) for name in _values.slots(type(value))
    }
    return [("attribute", k, v) for k, v in held.items()]
