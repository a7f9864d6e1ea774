"""Notes what is read from the objects of a module: a config, options, a processor.

They hold names and paths beside numbers, so that only what is read counts.
"""

from __future__ import annotations

import sys
from types import MemberDescriptorType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref._values import ATTRIBUTES, GONE, ITEMS, key_of, some, written

if TYPE_CHECKING:
    from typing_extensions import Self

# Whose objects are no part of an answer: loggers, locks, hooks.
_OTHERS = {"accelerate", "torch", *sys.stdlib_module_names}
_NOT_FOLLOWED = (type, tuple, torch.Tensor, torch.nn.Module)
_HEAP_TYPE = 1 << 9  # only classes that are made in Python can be watched


class Reading:
    """Notes reads from what a module refers to, for as long as it is entered."""

    def __init__(self) -> None:
        self._followed: dict[int, _Followed] = {}
        self._before: list[tuple[type, str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for kind, name, own in reversed(self._before):
            if own is GONE:
                delattr(kind, name)
            else:
                setattr(kind, name, own)

    def follow(self, path: str, value: Any) -> bool:
        """Note from now on what is read from `value`, if it is such an object."""
        followed = self._find(value)
        if followed is not None:
            followed.paths.add(path)
        return followed is not None

    def found(self) -> dict[str, Any]:
        """Give what was read, by the paths that led to each object."""
        return {
            path: form
            for followed in self._followed.values()
            for path in followed.paths
            if (form := followed.form())
        }

    def _find(self, value: Any) -> _Followed | None:
        if id(value) in self._followed:
            return self._followed[id(value)]
        kind = type(value)
        if not _can_follow(value):
            return None
        followed = self._followed[id(value)] = _Followed(value)
        if not self._is_watched(kind):  # what it has counts then, read or not
            items = some(value) if isinstance(value, dict) else {}
            followed.read[ITEMS].update(items)
            followed.read[ATTRIBUTES].update(some(getattr(value, "__dict__", {})))
        return followed

    def _is_watched(self, kind: type) -> bool:
        """Watch a class; not OrderedDict or SimpleNamespace, nor who forbids it."""
        if any(kind is watched for watched, _, _ in self._before):
            return True
        try:
            self._watch(kind)
        except (AttributeError, TypeError):
            return False
        return True

    def _watch(self, kind: Any) -> None:
        attribute = kind.__getattribute__

        def read_attribute(owner: Any, key: str) -> Any:
            value = attribute(owner, key)
            if key.startswith("__") or not _has(owner, kind, key):
                return value
            return self._note(owner, ATTRIBUTES, key, value)

        watching: dict[str, Any] = {"__getattribute__": read_attribute}
        if issubclass(kind, dict):
            item, get = kind.__getitem__, kind.get

            def read_item(table: Any, key: Any) -> Any:
                return self._note(table, ITEMS, key, item(table, key))

            def read_get(table: Any, key: Any, default: Any = None) -> Any:
                value = get(table, key, default)
                return self._note(table, ITEMS, key, value) if key in table else value

            watching |= {"__getitem__": read_item, "get": read_get}
        for name, function in watching.items():
            own = vars(kind).get(name, GONE)
            setattr(kind, name, function)
            self._before.append((kind, name, own))

    def _note(self, owner: Any, side: str, key: Any, value: Any) -> Any:
        followed = self._followed.get(id(owner))
        name = key_of(key)
        if followed is not None and name:
            form = written(value)
            inner = self._find(value) if form is GONE else None
            if form is not GONE or inner is not None:
                followed.read[side].setdefault(name, form if inner is None else inner)
        return value


class _Followed:
    """An object, the paths that lead to it from modules, and what was read from it."""

    def __init__(self, value: Any) -> None:
        self.value = value  # kept alive: it is known by its id
        self.paths: set[str] = set()
        self.read: dict[str, dict[str, Any]] = {ITEMS: {}, ATTRIBUTES: {}}

    def form(self, above: frozenset[int] = frozenset()) -> dict[str, Any]:
        """Write what was read; of an object within itself, nothing."""
        above |= {id(self)}
        form: dict[str, Any] = {}
        for side, values in self.read.items():
            for key, value in values.items():
                inner = isinstance(value, _Followed)
                if inner and id(value) in above:
                    continue
                written_value = value.form(above) if inner else value
                if not inner or written_value:
                    form.setdefault(side, {})[key] = written_value
        return form


def _can_follow(value: Any) -> bool:
    kind = type(value)
    if kind is dict or isinstance(value, _NOT_FOLLOWED):
        return False
    if isinstance(value, dict) or kind is SimpleNamespace:
        return True
    ours = kind.__module__.partition(".")[0] not in _OTHERS
    return ours and bool(kind.__flags__ & _HEAP_TYPE) and written(value) is GONE


def _has(owner: Any, kind: type, key: str) -> bool:
    """Whether an object has an attribute itself: in its dict, or in a slot."""
    try:
        return key in object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return isinstance(getattr(kind, key, None), MemberDescriptorType)
