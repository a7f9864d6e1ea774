"""What a module is beside the values of its weights: whether two can share a graph.

Plain values, such as `self.scale`, are left to `_attributes`, which knows whether a
graph has read them. What is listed here counts whether it was read or not.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import hashlib
import json
import types
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aoti_ref._attributes import TORCHS_OWN
from aoti_ref._call import spell
from aoti_ref._values import attribute, is_plain, slots, spelt

if TYPE_CHECKING:
    from collections.abc import Iterator

_NESTING = 6  # how deep objects are looked into
_HOOKED = frozenset({"forward", "_old_forward", "_hf_hook", "_diffusers_hook"})
_NAMED = (torch.dtype, torch.device, torch.layout, torch.memory_format, enum.Enum)


def make(module: nn.Module) -> dict[str, str]:
    """Spell how a module is made: its code, that of its parts, and their objects.

    The same in every process, so that it can be kept with a graph.
    """
    names = {id(part): name or "itself" for name, part in module.named_modules()}
    found: dict[str, str] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        found[f"{name}(class)".lstrip(".")] = _path(type(part))
        found[f"{name}(forward)"] = _spell(_forward(part), names, part)
        for key, value in vars(part).items():
            if key in TORCHS_OWN | _HOOKED or isinstance(value, torch.Tensor):
                continue
            if not is_plain(value):
                found[f"{name}.{key}".lstrip(".")] = _spell(value, names, part)
    return found


def tensors(module: nn.Module) -> dict[str, str]:
    """Spell a module's tensors without their values, what they share, its modes."""
    found: dict[str, str] = {}
    shared: dict[tuple[int, str], list[str]] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        found[f"{name}(training)"] = str(part.training)
        kinds = (
            ("parameter", part._parameters),
            ("buffer", part._buffers),
            ("attribute", vars(part)),
        )
        for kind, held in kinds:
            for key, tensor in held.items():
                if not isinstance(tensor, torch.Tensor):
                    continue
                at = f"{name}.{key}".lstrip(".")
                found[at] = f"{kind} {_tensor(tensor)}"
                for steps, inner in inside(tensor):
                    if inner.layout is torch.strided and inner.numel():
                        place = inner.untyped_storage().data_ptr(), str(inner.device)
                        shared.setdefault(place, []).append(".".join((at, *steps)))
    ties = [names for names in shared.values() if len(names) > 1]
    found["(shared)"] = repr(ties)
    return found


def group(module: nn.Module) -> dict[str, str]:
    """Say in a manifest's words what the blocks have in common that share a graph."""
    told = json.dumps([make(module), tensors(module)], sort_keys=True)
    signature = hashlib.sha256(told.encode()).hexdigest()
    return {"class": _path(type(module)), "signature": signature}


def plain(module: nn.Module) -> dict[str, Any]:
    """List the plain values of a module and its parts, read by its code or not."""
    return {
        f"{name}.{key}": repr(value)
        for name, part in module.named_modules(remove_duplicate=False)
        for key, value in vars(part).items()
        if key not in TORCHS_OWN and is_plain(value)
    }


def inside(
    tensor: Any, way: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    """Give the plain tensors within one, and the attributes that lead to each.

    A plain one is in itself, by no attribute. The order is torch's own.
    """
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield way, tensor
        return
    for name in flatten()[0]:
        yield from inside(getattr(tensor, name), (*way, name))


def spell_kind(tensor: torch.Tensor) -> str:
    """Spell how a tensor is made that holds others: `Float8Tensor(block_size=[1, 8])`.

    What its subclass says of itself beside those, such as how it multiplies.
    """
    name = type(tensor).__name__
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        return name
    inner, context = flatten()
    pairs = context.items() if isinstance(context, dict) else [("", context)]
    parts = [f"{key}={_spell(value, {}, None)}" for key, value in pairs]
    return f"{name}({', '.join([*inner, *parts])})"


def _forward(part: nn.Module) -> Any:
    """Give the eager forward of a module, under hooks and compiled models."""
    own = vars(part)
    found = own.get("_old_forward", own.get("forward"))
    before = getattr(found, "before", found)  # of a compiled model
    return type(part).forward if before is None else before


def _spell(value: Any, names: dict[int, str], owner: Any, depth: int = 0) -> str:
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, nn.Module):
        return names.get(id(value), f"a {_path(type(value))} elsewhere")
    if is_plain(value) or isinstance(value, _NAMED):
        return repr(value)
    if isinstance(value, type) or depth > _NESTING:
        return _path(value if isinstance(value, type) else type(value))
    if isinstance(value, types.MethodType) and value.__self__ is owner:
        value = value.__func__
    if isinstance(value, types.FunctionType):
        return _function(value, names, owner, depth)
    told = spelt(value)
    parts = [_spell(part, names, owner, depth + 1) for part in _inside(value)]
    parts = [told] if told else parts
    name = getattr(value, "__qualname__", "")  # of builtin functions
    return f"{_path(type(value))}{name}({', '.join(parts)})"


def _inside(value: Any) -> Iterator[Any]:
    """Give what makes a value what it is, in a fixed order."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from (key, item)
    elif isinstance(value, (list, tuple, deque)):
        yield from value
    elif isinstance(value, (set, frozenset)):
        yield from sorted(map(repr, value))
    elif isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, types.CellType):
        with contextlib.suppress(ValueError):  # it is empty
            yield value.cell_contents
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    else:
        held = {key: attribute(value, key) for key in slots(type(value))}
        for key, item in sorted((held | getattr(value, "__dict__", {})).items()):
            yield from (key, item)


def _function(
    function: types.FunctionType, names: dict[int, str], owner: Any, depth: int
) -> str:
    """Name a function; one that has no name for others by its code and closure."""
    name = f"{function.__module__}.{function.__qualname__}"
    if "<" not in name:
        return name
    code = function.__code__
    kept: list[Any] = [*(function.__closure__ or ())]
    kept += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
    constants = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
    parts = [_spell(part, names, owner, depth + 1) for part in kept]
    return f"{name} {code.co_code.hex()} {constants} {code.co_names} {parts}"


def _tensor(tensor: torch.Tensor) -> str:
    what = spell(tensor.dtype, tensor.shape)
    strides = tensor.stride() if tensor.layout is torch.strided else tensor.layout
    kind = spell_kind(tensor)
    return f"{kind} {what} {strides} on {tensor.device.type}"


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
