"""Ranges by argument name: read them, hold the graph to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.export import Dim

from aoti_ref._derive import leaf_nodes
from aoti_ref._errors import Fault
from aoti_ref._making_errors import BadRange, NarrowedRange, UnknownArgument

if TYPE_CHECKING:
    from torch.export import ExportedProgram


# Every dynamic dimension: the path to its tensor and its number, with its Dim.
Places = dict[tuple[str, int], Any]


def read_ranges(arguments: Mapping[str, Any], dynamic: Mapping[str, Any]) -> Places:
    """Read the ranges of a call.

    Args:
        arguments: By name, defaults included, `*args` and `**kwargs` spread.
        dynamic: As `export` takes it.

    Raises:
        UnknownArgument: A key names no argument.
        BadRange: An entry is no range, or no dimension of its tensor.
    """
    places: Places = {}
    for name, table in dynamic.items():
        if name not in arguments:
            raise UnknownArgument(name, tuple(arguments))
        _read(table, arguments[name], name, places)
    return places


def _read(table: Any, value: Any, path: str, places: Places) -> None:
    """Read the table of one argument, in the shape of its value."""
    if table is None:
        return
    if isinstance(value, torch.Tensor):
        _read_tensor(table, value, path, places)
    elif isinstance(value, Mapping):
        if not isinstance(table, Mapping) or not table.keys() <= value.keys():
            raise BadRange(path, f"a table with keys of {list(value)}", repr(table))
        for key, entry in table.items():
            _read(entry, value[key], f"{path}[{key!r}]", places)
    elif isinstance(value, (list, tuple)):
        if not isinstance(table, Sequence) or len(table) != len(value):
            raise BadRange(path, f"a list of {len(value)} tables", repr(table))
        for index, (entry, item) in enumerate(zip(table, value, strict=True)):
            _read(entry, item, f"{path}[{index}]", places)
    else:
        raise BadRange(path, "no table, because it is no tensor", repr(table))


def _read_tensor(table: Any, tensor: torch.Tensor, path: str, places: Places) -> None:
    entries = dict(table) if isinstance(table, Mapping) else None
    if entries is None and isinstance(table, Sequence) and len(table) == tensor.ndim:
        entries = {dim: entry for dim, entry in enumerate(table) if entry is not None}
    if entries is None:
        raise BadRange(path, "a table {dimension: range}", repr(table))
    for dim, entry in entries.items():
        where = f"{path}[{dim}]"
        if not isinstance(dim, int) or not -tensor.ndim <= dim < tensor.ndim:
            raise BadRange(
                where, f"a dimension of a tensor of rank {tensor.ndim}", repr(dim)
            )
        place = path, dim % tensor.ndim
        if place in places:
            raise BadRange(where, "every dimension once", f"{place[1]} as well")
        places[place] = _range(entry, where, *place)


def _range(entry: Any, where: str, path: str, dim: int) -> Any:
    if isinstance(entry, Dim):
        if entry.min < 1:
            # Compiled code divides by sizes unasked, and the process ends there.
            raise BadRange(where, "a smallest size of 1 or more", str(entry.min))
        return entry
    pair = isinstance(entry, (tuple, list)) and [type(end) for end in entry] == [
        int,
        int,
    ]
    if not pair or not 1 <= entry[0] < entry[1]:
        wanted = "a Dim, or (min, max) with a min of 1 or more"
        raise BadRange(where, wanted, repr(entry))
    name = "".join(c if c.isalnum() else "_" for c in f"{path}_{dim}")
    return Dim(name, min=entry[0], max=entry[1])


def ends(dim: Any) -> tuple[str, int, int]:
    """Name the root of a Dim and give the root's smallest and largest size."""
    root = getattr(dim, "root", dim)
    return root.__name__, root.min, root.max


def _times(dim: Any) -> int:
    """Give what one more of the root adds to the size (1 for a Dim, 2 for `2*h`)."""
    return int(dim.fn(2) - dim.fn(1)) if hasattr(dim, "root") else 1


def grown(leaves: list[Any], paths: list[str], places: Places) -> list[Any]:
    """Repeat examples of size 0 or 1 along dimensions that vary.

    torch.export takes a 0 or 1 for a constant. What is repeated is only the
    example; the range still admits 1 where it says so.

    Args:
        leaves: Of all arguments.
        paths: Theirs, in order.
        places: Where a dimension varies.

    Raises:
        BadRange: An example lies outside its range, or cannot be repeated.
    """
    sizes: dict[str, int] = {}
    found = dict(zip(paths, leaves, strict=True))
    for (path, dim), entry in places.items():
        found[path] = _grow(found[path], f"{path}[{dim}]", dim, entry, sizes)
    return list(found.values())


def shapes(leaves: list[Any], paths: list[str], places: Places) -> Any:
    """Tell torch.export which dimensions of which tensors vary."""
    found = dict(zip(paths, leaves, strict=True))
    collection: Any = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for (path, dim), entry in places.items():
        collection[found[path]][dim] = entry
    return collection if places else None


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


def check_ranges(program: ExportedProgram, places: Places) -> dict[str, str]:
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
    for (path, dim), entry in places.items():
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
