"""How a manifest has the plain values of a module, and whether a value is that one.

Numbers, strings, and lists and dicts of them are written as they are. What JSON does
not have is a dict whose keys no module would use. Of a container that holds tensors or
modules, too, the rest is written.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import deque
from enum import Enum
from functools import partial
from numbers import Number
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
_ROWS = (list, tuple, deque)
_NESTING = 6  # how deep containers are looked into
_SPELT = (Enum, complex, bytes, range, torch.device, torch.layout, torch.memory_format)
_DTYPE, _FUNCTION, _VALUE, _SET = "<dtype>", "<function>", "<value>", "<set>"
_PARTIAL = "<partial>"
ITEMS, ATTRIBUTES = "<items>", "<attributes>"  # some of those of an object
_KEY = "<key>"  # before a key that is no string: its JSON follows
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
    told = spelt(value)
    if told:
        return {_VALUE: f"{kind.__module__}.{kind.__qualname__}: {told}"}
    if is_function(value):
        return {_FUNCTION: _name(value)}
    return _written_inside(value, depth - 1) if depth else GONE


def spelt(value: Any) -> str:
    """Spell a value that is no container: an enum, a device, a number of a library's.

    >>> from fractions import Fraction
    >>> spelt(Fraction(1, 2)), spelt(2j), spelt([1])
    ('Fraction(1, 2)', '2j', '')
    """
    if isinstance(value, Enum):
        return str(value.name)
    if _is_numpys(value, "generic"):
        return repr(value.item())
    if _is_numpys(value, "ndarray"):
        data = hashlib.sha256(value.tobytes()).hexdigest()[:16]
        return f"{value.dtype}{list(value.shape)} {data}"
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind.__repr__(value)
    return repr(value) if isinstance(value, (*_SPELT, Number)) else ""


def _is_numpys(value: Any, kind: str) -> bool:
    """Whether a value is of a class of NumPy's, which need not be installed."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, getattr(numpy, kind))


def _written_inside(value: Any, depth: int) -> Any:
    kind = type(value)
    if isinstance(value, _ROWS):
        items = [written(item, depth) for item in value]
        if any(item is GONE for item in items):
            return _part(some(dict(enumerate(value)), depth))
        return (tuple if isinstance(value, tuple) else list)(items)
    if kind in (set, frozenset):
        items = sorted((written(item, depth) for item in value), key=repr)
        return GONE if any(item is GONE for item in items) else {_SET: items}
    if kind is partial:
        made = written((value.func, value.args, value.keywords), depth)
        return GONE if made is GONE else {_PARTIAL: made}
    if kind is dict:
        found = some(value, depth)
        whole = len(found) == len(value) and not found.keys() & _MARKS
        return found if whole else _part(found)
    return GONE


def _part(found: dict[str, Any]) -> Any:
    return {ITEMS: found} if found else GONE


def some(values: dict[Any, Any], depth: int = _NESTING) -> dict[str, Any]:
    """Write those of a dict that a manifest can have, keys as `key_of` spells them."""
    found = {key_of(k): written(v, depth) for k, v in values.items()}
    found.pop("", None)
    return {key: item for key, item in found.items() if item is not GONE}


def key_of(key: Any) -> str:
    """Spell the key of a dict as a manifest has it; empty if it cannot have it.

    >>> key_of("scale"), key_of(0), key_of(object())
    ('scale', '<key>0', '')
    """
    if type(key) is str and not key.startswith(_KEY):
        return key
    form = written(key)
    return "" if form is GONE else f"{_KEY}{_dumped(form)}"


def spell_key(key: str) -> str:
    """Spell a key of `key_of` as Python does, for people."""
    return key.removeprefix(_KEY) if key.startswith(_KEY) else repr(key)


def item(found: Any, key: str) -> Any:
    """Give what a container has under a key of `key_of`, or GONE."""
    if not isinstance(found, (dict, *_ROWS)):
        return GONE
    if not key.startswith(_KEY):
        return dict.get(found, key, GONE) if isinstance(found, dict) else GONE
    return _named(found).get(key, GONE)


def _named(found: Any) -> dict[str, Any]:
    pairs = dict.items(found) if isinstance(found, dict) else enumerate(found)
    return {key_of(key): item for key, item in pairs}


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
    """Whether a value is the same for as long as it is the same object.

    >>> import numpy as np
    >>> never_changes(np.float64(0.5)), never_changes(np.ones(2).view(np.recarray))
    (True, False)
    """
    if type(value) is tuple:
        return all(map(never_changes, value))
    if isinstance(value, FunctionType):
        return value.__closure__ is None
    plain = isinstance(value, (*_SCALARS, torch.dtype)) or bool(spelt(value))
    return (plain and not _is_numpys(value, "ndarray")) or is_function(value)


def same(found: Any, wanted: Any) -> bool:
    """Whether a value is `wanted`: types too, but that JSON has no tuples.

    >>> same(0.0, -0.0), same(3.0, 3), same(torch.float32, {"<dtype>": "torch.float32"})
    (False, False, True)
    """
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(found, _ROWS)
            and len(found) == len(wanted)
            and all(map(same, found, wanted))
        )
    if isinstance(wanted, dict):
        if wanted and wanted.keys() <= _MARKS:
            return _same_object(found, wanted)
        if isinstance(found, dict) and found.keys() != wanted.keys():
            found = _named(found)
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
    return all(
        same(item(found, key), value) for key, value in wanted.get(ITEMS, {}).items()
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


def slots(kind: type) -> list[str]:
    """List the slots of a class that was made in Python."""
    return [
        name
        for each in kind.__mro__
        if "__slots__" in vars(each)
        for name, slot in vars(each).items()
        if isinstance(slot, MemberDescriptorType)
    ]


def differences(path: str, found: Any, wanted: Any) -> Iterator[tuple[str, str]]:
    """Name what is not as it should be, each by its path, and say how it differs."""
    marks = wanted.keys() if isinstance(wanted, dict) else set()
    if not marks & {ITEMS, ATTRIBUTES}:
        yield path, f"wants {spell(wanted)}, found {spell(written(found))}"
        return
    for key, value in wanted.get(ITEMS, {}).items():
        if not same(there := item(found, key), value):
            yield from differences(f"{path}[{spell_key(key)}]", there, value)
    for key, value in wanted.get(ATTRIBUTES, {}).items():
        if not same(there := attribute(found, key), value):
            yield from differences(f"{path}.{key}", there, value)


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
