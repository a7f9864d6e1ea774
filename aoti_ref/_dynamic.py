"""Ranges by argument name: read them, hold the graph to them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.export import Dim

from aoti_ref._contract import leaf_nodes
from aoti_ref._errors import BadRange, Fault, NarrowedRange, UnknownArgument

if TYPE_CHECKING:
    from torch.export import ExportedProgram


@dataclass
class Dimensions:
    """The dynamic dimensions of a call.

    Args:
        arguments: By name, in the form that torch.export takes.
        places: Every dynamic dimension: a path to its tensor, and its number.
    """

    arguments: dict[str, Any]
    places: dict[tuple[str, int], Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.places)


def dimensions(
    signature: inspect.Signature, arguments: dict[str, Any], dynamic: Mapping[str, Any]
) -> Dimensions:
    """Read the ranges of a call.

    Args:
        signature: Of the method that is exported.
        arguments: Its bound arguments by parameter name, defaults included.
        dynamic: As `export` takes it.

    Raises:
        UnknownArgument: A key names no argument.
        BadRange: An entry is no range, or no dimension of its tensor.
    """
    gathered = {
        name
        for name, p in signature.parameters.items()
        if p.kind is inspect.Parameter.VAR_KEYWORD
    }
    flat = {n: v for n, v in arguments.items() if n not in gathered}
    for name in gathered & arguments.keys():
        flat |= arguments[name]
    for name, table in dynamic.items():
        if name not in flat:
            raise UnknownArgument(name, tuple(flat))
        parameter = signature.parameters.get(name)
        if parameter and parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise BadRange(name, f"no range, because it is *{name}", repr(table))
    dims = Dimensions({})
    tables = {n: _read(dynamic.get(n), v, n, dims.places) for n, v in flat.items()}
    for name, value in arguments.items():
        own = {key: tables[key] for key in value} if name in gathered else tables[name]
        dims.arguments[name] = own
    return dims


def _read(table: Any, value: Any, path: str, places: dict[tuple[str, int], Any]) -> Any:
    """Read the table of one argument, in the shape of its value."""
    if isinstance(value, torch.Tensor):
        return _read_tensor(table, value, path, places)
    if isinstance(value, Mapping):
        entries = {} if table is None else table
        if not isinstance(entries, Mapping) or not entries.keys() <= value.keys():
            raise BadRange(path, f"a table with keys of {list(value)}", repr(table))
        return {
            k: _read(entries.get(k), v, f"{path}[{k!r}]", places)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        items = [None] * len(value) if table is None else table
        if not isinstance(items, Sequence) or len(items) != len(value):
            raise BadRange(path, f"a list of {len(value)} tables", repr(table))
        read = [
            _read(t, v, f"{path}[{i}]", places)
            for i, (t, v) in enumerate(zip(items, value, strict=True))
        ]
        return read if isinstance(value, list) else tuple(read)
    if table is not None:
        raise BadRange(path, "no table, because it is no tensor", repr(table))
    return None


def _read_tensor(
    table: Any, tensor: torch.Tensor, path: str, places: dict[tuple[str, int], Any]
) -> dict[int, Any] | None:
    if table is None:
        return None
    entries = dict(table) if isinstance(table, Mapping) else None
    if entries is None and isinstance(table, Sequence) and len(table) == tensor.ndim:
        entries = {dim: entry for dim, entry in enumerate(table) if entry is not None}
    if entries is None:
        raise BadRange(path, "a table {dimension: range}", repr(table))
    read: dict[int, Any] = {}
    for dim, entry in entries.items():
        where = f"{path}[{dim}]"
        if not isinstance(dim, int) or not -tensor.ndim <= dim < tensor.ndim:
            raise BadRange(
                where, f"a dimension of a tensor of rank {tensor.ndim}", repr(dim)
            )
        read[dim % tensor.ndim] = _range(entry, where, path, dim % tensor.ndim)
        places[path, dim % tensor.ndim] = read[dim % tensor.ndim]
    return read


def _range(entry: Any, where: str, path: str, dim: int) -> Any:
    if isinstance(entry, Dim):
        return entry
    pair = isinstance(entry, (tuple, list)) and [type(end) for end in entry] == [
        int,
        int,
    ]
    if not pair or not 0 <= entry[0] < entry[1]:
        raise BadRange(where, "a Dim, or (min, max)", repr(entry))
    name = "".join(c if c.isalnum() else "_" for c in f"{path}_{dim}")
    return Dim(name, min=entry[0], max=entry[1])


def ends(dim: Any) -> tuple[str, int, int]:
    """Name the root of a Dim and give the root's smallest and largest size."""
    root = getattr(dim, "root", dim)
    return root.__name__, root.min, root.max


def _times(dim: Any) -> int:
    """Give what one more of the root adds to the size (1 for a Dim, 2 for `2*h`)."""
    return int(dim.fn(2) - dim.fn(1)) if hasattr(dim, "root") else 1


def grown(arguments: dict[str, Any], dims: Dimensions) -> dict[str, Any]:
    """Repeat examples of size 0 or 1 along dimensions that vary.

    torch.export takes a 0 or 1 for a constant. What is repeated is only the
    example; the range still admits 1 where it says so.

    Raises:
        BadRange: An example lies outside its range, or cannot be repeated.
    """
    sizes: dict[str, int] = {}

    def grow(path: str, tensor: torch.Tensor) -> torch.Tensor:
        for (place, dim), entry in dims.places.items():
            if place == path:
                tensor = _grow(tensor, f"{path}[{dim}]", dim, entry, sizes)
        return tensor

    return {n: _map_tensors(value, n, grow) for n, value in arguments.items()}


def _map_tensors(value: Any, path: str, function: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return function(path, value)
    if isinstance(value, Mapping):
        return {
            k: _map_tensors(v, f"{path}[{k!r}]", function) for k, v in value.items()
        }
    if type(value) in (list, tuple):
        items = [_map_tensors(v, f"{path}[{i}]", function) for i, v in enumerate(value)]
        return type(value)(items)
    return value


def _grow(
    tensor: torch.Tensor, where: str, dim: int, entry: Any, sizes: dict[str, int]
) -> torch.Tensor:
    name, low, high = ends(entry)
    size, smallest, largest = tensor.shape[dim], entry.min, entry.max
    if not smallest <= size <= largest:
        raise BadRange(where, f"an example in {smallest}..{largest}", str(size))
    if size > 1:
        return tensor
    if size == 0 or hasattr(entry, "root"):
        raise BadRange(where, "an example of two or more", str(size))
    target = sizes.setdefault(name, min(max(low, 2), high))
    return tensor.repeat_interleave(target, dim)


def check_ranges(program: ExportedProgram, dims: Dimensions) -> dict[str, str]:
    """Hold the graph to what was asked for.

    Returns:
        The public name of each of the graph's symbols.

    Raises:
        NarrowedRange: A dimension became fixed, or lost some of its sizes.
    """
    names: dict[str, str] = {}
    faults: list[Fault] = []
    nodes = {node.name: node for node in program.graph.nodes}
    placeholders = leaf_nodes(program)
    for (path, dim), entry in dims.places.items():
        tensor = nodes[placeholders[path]].meta["val"]
        name, low, high = ends(entry)
        where = f"{path}[{dim}]"
        size = tensor.shape[dim]
        wanted = f"wants {name} in {low}..{high}"
        free = [] if isinstance(size, int) else list(size.node.expr.free_symbols)
        if len(free) != 1:
            faults.append(Fault("fixed", where, f"{wanted}, got {size}"))
            continue
        times = size.node.expr.diff(free[0])
        if times != _times(entry):
            faults.append(Fault("derived", where, f"{wanted}, got {size}"))
            continue
        got = program.range_constraints[free[0]]
        if got.lower > low or got.upper < high:
            faults.append(
                Fault("range", where, f"{wanted}, got {got.lower}..{got.upper}")
            )
        names[str(free[0])] = name
    if faults:
        raise NarrowedRange(tuple(faults))
    return names
