"""How a manifest has the plain values of a module, and whether a value is that one.

Numbers, strings, and lists and dicts of them are written as they are. What JSON does
not have is a dict whose keys no module would use.
"""

from __future__ import annotations

import hashlib
import json
from enum import Enum
from functools import partial
from types import (
    BuiltinFunctionType,
    FunctionType,
    MemberDescriptorType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref._call import spell_value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

_SCALARS = (bool, int, float, str, type(None))
_NESTING = 6  # how deep containers are looked into
_SPELT = (Enum, complex, bytes, range, torch.device, torch.layout, torch.memory_format)
_DTYPE, _FUNCTION, _VALUE, _SET = "<dtype>", "<function>", "<value>", "<set>"
_PARTIAL = "<partial>"
ITEMS, ATTRIBUTES = "<items>", "<attributes>"  # some of those of an object
_MARKS = {_DTYPE, _FUNCTION, _VALUE, _SET, _PARTIAL, ITEMS, ATTRIBUTES}
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
    if kind is torch.dtype:
        return {_DTYPE: str(value)}
    if isinstance(value, _SPELT):
        told = value.name if isinstance(value, Enum) else repr(value)
        return {_VALUE: f"{kind.__module__}.{kind.__qualname__}: {told}"}
    if is_function(value):
        return {_FUNCTION: _name(value)}
    return _written_inside(value, depth - 1) if depth else GONE


def _written_inside(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is list or isinstance(value, tuple):
        items = [written(item, depth) for item in value]
        plain = list if kind is list else tuple
        return GONE if any(item is GONE for item in items) else plain(items)
    if kind in (set, frozenset):
        items = sorted((written(item, depth) for item in value), key=repr)
        return GONE if any(item is GONE for item in items) else {_SET: items}
    if kind is partial:
        made = written((value.func, value.args, value.keywords), depth)
        return GONE if made is GONE else {_PARTIAL: made}
    if kind is dict:
        found = some(value, depth)
        whole = len(found) == len(value) and not found.keys() & _MARKS
        return found if whole else GONE
    return GONE


def some(values: dict[Any, Any], depth: int = _NESTING) -> dict[str, Any]:
    """Write those of a dict that a manifest can have, by keys that are strings."""
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
    return isinstance(value, (*_SCALARS, torch.dtype, *_SPELT)) or is_function(value)


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
    if not (ITEMS in wanted or ATTRIBUTES in wanted):
        form = written(found)
        return form is not GONE and _dumped(form) == _dumped(wanted)
    items = found if isinstance(found, dict) else {}
    return all(
        same(dict.get(items, key, GONE), value)
        for key, value in wanted.get(ITEMS, {}).items()
    ) and all(
        same(attribute(found, key), value)
        for key, value in wanted.get(ATTRIBUTES, {}).items()
    )


def _dumped(form: Any) -> str:
    return json.dumps(form, sort_keys=True)


def attribute(value: Any, key: str) -> Any:
    """Give what an object itself has under `key`, or GONE."""
    own = getattr(value, "__dict__", {})
    if key in own:
        return own[key]
    slot = getattr(type(value), key, None)
    try:
        return slot.__get__(value) if isinstance(slot, MemberDescriptorType) else GONE
    except AttributeError:
        return GONE


def differences(path: str, found: Any, wanted: Any) -> Iterator[tuple[str, str]]:
    """Name what is not as it should be, each by its path, and say how it differs."""
    marks = wanted.keys() if isinstance(wanted, dict) else set()
    if not marks & {ITEMS, ATTRIBUTES}:
        yield path, f"wants {spell(wanted)}, found {spell(written(found))}"
        return
    items = found if isinstance(found, dict) else {}
    for key, value in wanted.get(ITEMS, {}).items():
        if not same(item := dict.get(items, key, GONE), value):
            yield from differences(f"{path}[{key!r}]", item, value)
    for key, value in wanted.get(ATTRIBUTES, {}).items():
        if not same(item := attribute(found, key), value):
            yield from differences(f"{path}.{key}", item, value)


def spell(form: Any) -> str:
    """Spell what `written` has made.

    >>> spell({"<dtype>": "torch.float32"}), spell({"<set>": [1]})
    ('torch.float32', '{1}')
    >>> spell({"<partial>": [{"<function>": "torch.clamp"}, [], {"min": 0.5}]})
    'partial(torch.clamp, min=0.5)'
    """
    if form is GONE:
        return "none"
    if not isinstance(form, dict) or not form.keys() & _MARKS:
        return spell_value(form)
    if _PARTIAL in form:
        function, arguments, keywords = form[_PARTIAL]
        named = [f"{key}={spell(value)}" for key, value in keywords.items()]
        told = [spell(function), *map(spell, arguments), *named]
        return f"partial({', '.join(told)})"
    if _SET in form:
        return f"{{{', '.join(map(spell, form[_SET]))}}}"
    return ", ".join(str(value) for value in form.values())
