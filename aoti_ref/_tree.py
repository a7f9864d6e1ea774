"""Nested arguments and results, written down as JSON and taken apart again.

A tree is `"*"` for a leaf, or a list: the kind of a container, then its children.
`["dict", [["a", "*"], ["b", "*"]]]` keeps the order in which the graph wants the
entries; a caller's dict may have another. A named tuple's kind is its class.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections import OrderedDict, namedtuple
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from aoti_ref._call import spell_value
from aoti_ref._errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Tree = str | list[Any]

LEAF = "*"
LOST = object()  # stands for a leaf whose container is missing, or another one


def children_of(spec: pytree.TreeSpec) -> list[pytree.TreeSpec]:
    """List the specs below `spec`; torch renames the attribute after 2.12."""
    if hasattr(spec, "children"):
        return list(spec.children())
    return list(spec.children_specs)


def draw(spec: pytree.TreeSpec) -> Tree:
    """Write down the structure of an argument.

    Raises:
        TypeError: A container is neither list, tuple, dict nor named tuple, or a
            dict has keys that JSON does not keep.
    """
    if spec.is_leaf():
        return LEAF
    children = [draw(child) for child in children_of(spec)]
    if spec.type in (list, tuple):
        return [spec.type.__name__, children]
    if spec.type in (dict, OrderedDict):
        strange = [key for key in spec.context if type(key) not in (str, int)]
        if strange:
            message = f"a dict has the key {strange[0]!r}, which is no string or int"
            raise TypeError(message)
        pairs = zip(spec.context, children, strict=True)
        return ["dict", [list(pair) for pair in pairs]]
    if spec.type is namedtuple:  # noqa: PYI024  # pytree's name for all of them
        return [_class(spec.context), children]
    message = f"an argument of type {spec.type.__qualname__} has no plain structure"
    raise TypeError(message)


def spread(
    signature: inspect.Signature, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Name every argument of a bound call, as torch.export does.

    What `*more` gathered becomes `more_0`, `more_1`; what `**named` gathered keeps
    the names that it was given under.
    """
    named: dict[str, Any] = {}
    for name, value in arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named |= {f"{name}_{i}": item for i, item in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = value
    return named


def flatten(
    tree: Tree, value: Any, path: str, leaves: list[Any], faults: list[Fault]
) -> None:
    """Append the leaves of `value` in the order of `tree`, or say what is amiss.

    What is amiss has `LOST` for each of its leaves, so that the others can be told.
    """
    if isinstance(tree, str):
        leaves.append(value)
        return
    kind, children = tree
    if kind == "dict":
        wanted = [key for key, _ in children]
        if not isinstance(value, dict) or set(value) != set(wanted):
            faults.append(_misfit(path, f"a dict with the keys {wanted}", value))
            leaves.extend(lost(tree))
            return
        for key, child in children:
            flatten(child, value[key], f"{path}[{key!r}]", leaves, faults)
        return
    # To a module, a named tuple is not the plain one of equal length.
    name = _class(type(value)) if hasattr(value, "_fields") else type(value).__name__
    if name != kind or len(value) != len(children):
        faults.append(_misfit(path, f"a {kind} of {len(children)}", value))
        leaves.extend(lost(tree))
        return
    for index, child in enumerate(children):
        flatten(child, value[index], f"{path}[{index}]", leaves, faults)


def lost(tree: Tree) -> list[object]:
    """Give what stands for the leaves of a `tree` that is not there."""
    return [LOST for _ in paths(tree, "")]


def paths(tree: Tree, path: str) -> Iterator[str]:
    """Name the leaves of `tree`, in order."""
    if isinstance(tree, str):
        yield path
        return
    kind, children = tree
    for index, child in enumerate(children):
        key, inner = child if kind == "dict" else (index, child)
        yield from paths(inner, f"{path}[{key!r}]")


def dump_result(spec: pytree.TreeSpec) -> str:
    """Write down the structure of a result, with the modules of its classes.

    Raises:
        NotImplementedError: A class of the result cannot be named in JSON, or torch
            gives another in its place.
    """
    if torch.Size in _kinds(spec):
        message = "a torch.Size in a result comes back as a tuple"
        raise NotImplementedError(message)
    return json.dumps({"imports": sorted(_modules(spec)), "spec": _dumps(spec)})


def load_result(text: str) -> pytree.TreeSpec:
    """Read what `dump_result` wrote, in a process that knows none of the classes.

    Raises:
        ImportError: A class's library is not installed here.
    """
    found = json.loads(text)
    for name in found["imports"]:
        importlib.import_module(name)  # classes register themselves with pytree
    return pytree.treespec_loads(found["spec"])


def _dumps(spec: pytree.TreeSpec) -> str:
    text: str = pytree.treespec_dumps(spec)
    return text


def _kinds(spec: pytree.TreeSpec) -> set[Any]:
    return {spec.type}.union(*(_kinds(child) for child in children_of(spec)))


def _modules(spec: pytree.TreeSpec) -> set[str]:
    if spec.is_leaf():
        return set()
    modules = {spec.type.__module__} - {"builtins", "collections"}
    return modules.union(*(_modules(child) for child in children_of(spec)))


def _class(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _misfit(path: str, wanted: str, value: object) -> Fault:
    return Fault("structure", path, f"wants {wanted}, found {spell_value(value)}")
