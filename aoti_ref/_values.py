"""How a manifest has the plain values of a module, and whether a value is that one.

Numbers, strings, and lists and dicts of them are written as they are. What JSON does
not have is a dict whose keys no module would use.
"""

from __future__ import annotations

import hashlib
from types import BuiltinFunctionType, FunctionType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref._call import spell_value

if TYPE_CHECKING:
    from types import CodeType

    from typing_extensions import Self

_SCALARS = (bool, int, float, str, type(None))
_NESTING = 6  # how deep containers are looked into
_DTYPE, _FUNCTION = "<dtype>", "<function>"
_ITEMS, _ATTRIBUTES = "<items>", "<attributes>"  # some of those of an object
_MARKS = {_DTYPE, _FUNCTION, _ITEMS, _ATTRIBUTES}
GONE = object()


def is_plain(value: Any) -> bool:
    """Whether a manifest has a value as it is."""
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(type(k) is str and is_plain(item) for k, item in value.items())
    return type(value) in _SCALARS


def written(value: Any, depth: int = _NESTING) -> Any:
    """Write a value as a manifest has it, or give GONE.

    >>> written({"kind": torch.float32, "sizes": (1, 2)})
    {'kind': {'<dtype>': 'torch.float32'}, 'sizes': (1, 2)}
    >>> written(torch.ones(2)) is GONE
    True
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is torch.dtype or is_function(value):
        named = kind is torch.dtype
        return {_DTYPE: str(value)} if named else {_FUNCTION: _name(value)}
    return _written_inside(value, depth - 1) if depth else GONE


def _written_inside(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in (list, tuple):
        items = [written(item, depth) for item in value]
        return GONE if any(item is GONE for item in items) else kind(items)
    if kind is SimpleNamespace:
        return {_ATTRIBUTES: _some(vars(value), depth)}
    if kind is dict:
        some = _some(value, depth)
        return some if len(some) == len(value) and not some.keys() & _MARKS else GONE
    return GONE


def _some(values: dict[Any, Any], depth: int) -> dict[str, Any]:
    found = {k: written(v, depth) for k, v in values.items() if type(k) is str}
    return {key: item for key, item in found.items() if item is not GONE}


def is_function(value: Any) -> bool:
    """Whether a value is a function that is bound to no object."""
    if type(value) is BuiltinFunctionType:
        return isinstance(value.__self__, (type(None), type, ModuleType))
    return type(value) is FunctionType


def _name(function: Any) -> str:
    """Name a function; one without a name of its own also by what it does."""
    module = getattr(function, "__module__", None) or "torch"
    name = f"{module}.{function.__qualname__}"
    code: CodeType | None = getattr(function, "__code__", None)
    if code is None or "<" not in name:
        return name
    cells = [written(c.cell_contents) for c in function.__closure__ or ()]
    held = [*code.co_consts, *cells]
    plain = [repr(each) for each in held if type(each) in _SCALARS]
    told = repr((code.co_code, code.co_names, plain, function.__defaults__))
    return f"{name}#{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def never_changes(value: Any) -> bool:
    """Whether a value is the same for as long as it is the same object."""
    if type(value) is tuple:
        return all(map(never_changes, value))
    if isinstance(value, FunctionType):
        return value.__closure__ is None
    return isinstance(value, (*_SCALARS, torch.dtype)) or is_function(value)


def same(found: Any, wanted: Any) -> bool:
    """Whether a value is `wanted`: types too, but that JSON has no tuples.

    >>> same(0.0, -0.0), same(3.0, 3), same(torch.float32, {"<dtype>": "torch.float32"})
    (False, False, True)
    """
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(found, (list, tuple))
            and len(found) == len(wanted)
            and all(map(same, found, wanted))
        )
    if isinstance(wanted, dict):
        if wanted and wanted.keys() <= _MARKS:
            return _same_object(found, wanted)
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(same(found[key], wanted[key]) for key in wanted)
        )
    if type(found) is not type(wanted):
        return False
    if type(found) is float:  # NaN is NaN, and 0.0 is not -0.0
        return repr(found) == repr(wanted)
    return bool(found == wanted)


def _same_object(found: Any, wanted: dict[str, Any]) -> bool:
    if not (_ITEMS in wanted or _ATTRIBUTES in wanted):
        return bool(written(found) == wanted)
    items = found if isinstance(found, dict) else {}
    own = getattr(found, "__dict__", {})
    sides = (items, wanted.get(_ITEMS, {})), (own, wanted.get(_ATTRIBUTES, {}))
    return all(
        same(dict.get(side, key, GONE), value)
        for side, values in sides
        for key, value in values.items()
    )


class Tables:
    """Notes what is read from dicts of a class of their own, such as diffusers' config.

    They hold names and paths beside numbers, so that only what is read counts.
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[Any, set[str], dict[str, dict[str, Any]]]] = {}
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
        """Note from now on what is read from `value`, if it is such a dict."""
        kind = type(value)
        if not isinstance(value, dict) or kind is dict:
            return False
        entry = self._found.setdefault(id(value), (value, set(), {}))
        entry[1].add(path)
        if not kind.__flags__ & 1 << 9:  # OrderedDict and its like cannot be watched
            entry[2][_ITEMS] = _some(value, _NESTING)
        elif not any(kind is watched for watched, _, _ in self._before):
            self._watch(kind)
        return True

    def read(self) -> dict[str, Any]:
        """Give what was read, by the paths that led to each dict."""
        return {
            path: sides
            for _, paths, sides in self._found.values()
            for path in paths
            if any(sides.values())
        }

    def _watch(self, kind: Any) -> None:
        item, get, attribute = kind.__getitem__, kind.get, kind.__getattribute__

        def read_item(table: Any, key: Any) -> Any:
            return self._note(table, _ITEMS, key, item(table, key))

        def read_get(table: Any, key: Any, default: Any = None) -> Any:
            value = get(table, key, default)
            return self._note(table, _ITEMS, key, value) if key in table else value

        def read_attribute(table: Any, key: str) -> Any:
            value = attribute(table, key)
            if key.startswith("__") or key not in attribute(table, "__dict__"):
                return value
            return self._note(table, _ATTRIBUTES, key, value)

        watching = {
            "__getitem__": read_item,
            "get": read_get,
            "__getattribute__": read_attribute,
        }
        for name, function in watching.items():
            self._before.append((kind, name, vars(kind).get(name, GONE)))
            setattr(kind, name, function)

    def _note(self, table: Any, side: str, key: Any, value: Any) -> Any:
        form = written(value)
        if id(table) in self._found and type(key) is str and form is not GONE:
            self._found[id(table)][2].setdefault(side, {}).setdefault(key, form)
        return value


def spell(form: Any) -> str:
    """Spell what `written` has made.

    >>> spell({"<dtype>": "torch.float32"}), spell({"<items>": {"gain": 2.0}})
    ('torch.float32', "{'gain': 2.0}")
    """
    if isinstance(form, dict) and form and form.keys() <= _MARKS:
        for mark in (_DTYPE, _FUNCTION):
            if mark in form:
                return str(form[mark])
        form = {**form.get(_ITEMS, {}), **form.get(_ATTRIBUTES, {})}
    return spell_value(form)


def spell_found(value: Any, wanted: Any) -> str:
    """Spell what was found where `wanted` should be, no further than that goes."""
    if isinstance(value, dict) and isinstance(wanted, dict) and _ITEMS in wanted:
        value = {key: dict.get(value, key) for key in wanted[_ITEMS]}
    form = written(value)
    return "none" if value is GONE else spell(value if form is GONE else form)
