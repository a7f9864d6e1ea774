"""What a compiled call accepts and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from aoti_ref import _tree
from aoti_ref._call import spell

if TYPE_CHECKING:
    import enum

# Where export leaves what a program forgets, in its graph module's `meta`.
DIMS = "aoti_ref.dims"  # the graph's symbols to the names of the ranges
MODULE = "aoti_ref.module"  # the class that was exported
FIXED = "aoti_ref.fixed"  # arguments that torch.export cannot take, by name
VALUES = "aoti_ref.values"  # plain values that its code read from the module
FORM = "aoti_ref.form"  # how many arguments the call gave by place, which by name
GROUP = "aoti_ref.group"  # how the blocks are made that share the graph
PLACES = "aoti_ref.places"  # where literals hang in containers of the module

# Numbers that the graph computes; "bool" alone would be a dtype.
PYTHON_NUMBERS = {
    torch.SymInt: "python int",
    torch.SymBool: "python bool",
    torch.SymFloat: "python float",
}


class Symbol(NamedTuple):
    """A dimension that varies: its name, and its smallest and largest size."""

    name: str
    min: int
    max: int


class Size(NamedTuple):
    """A size that follows a symbol: `times * symbol + plus`."""

    symbol: str
    times: int = 1
    plus: int = 0

    def spell(self, name: str) -> str:
        """Spell the size under the symbol's public name: `2*h + 1`."""
        text = name if self.times == 1 else f"{self.times}*{name}"
        return f"{text} + {self.plus}" if self.plus else text


class TensorSpec(NamedTuple):
    """A tensor argument: dtype by name, device type, sizes, and its strides.

    `order` lists the dimensions from the slowest to the fastest in memory, for
    a tensor without gaps; it is what the generated code has baked in.
    """

    dtype: str
    device: str
    sizes: tuple[int | Size, ...]
    order: tuple[int, ...]


class ValueSpec(NamedTuple):
    """An argument that is no tensor: the graph holds for this value alone."""

    value: Any


class EnumMember(NamedTuple):
    """A member of an enumeration by its names: its class may be imported later."""

    kind: str
    name: str

    @classmethod
    def of(cls, member: enum.Enum) -> EnumMember:
        kind = type(member)
        return cls(f"{kind.__module__}.{kind.__qualname__}", member.name)

    def __repr__(self) -> str:
        return f"{self.kind}.{self.name}"


Leaf = TensorSpec | ValueSpec


def same(a: object, b: object) -> bool:
    """Whether two values are one and the same to a graph: type, then value.

    >>> same(True, 1), same(1, 1.0), same(float("nan"), float("nan"))
    (False, False, True)
    """
    if isinstance(b, EnumMember):
        kind = type(a)
        name = f"{kind.__module__}.{kind.__qualname__}"
        return name == b.kind and getattr(a, "name", None) == b.name
    if type(a) is not type(b) or isinstance(a, torch.Tensor):
        return a is b
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) and isinstance(b, float):
        # Zeros of both signs are equal, and 1/x tells them apart.
        return (a != a and b != b) or a.hex() == b.hex()  # noqa: PLR0124
    return bool(a == b)


@dataclass(frozen=True)
class Contract:
    """What a compiled call accepts and returns.

    Args:
        module: The class that was exported, for messages.
        arguments: For each argument by name, the tree of its value.
        leaves: The leaves of all arguments, in the order of the trees.
        symbols: The dimensions that vary, by the graph's own names.
        conditions: What must hold between them, such as `s0 <= s1`.
        outputs: For each flat output a dtype's name, one of PYTHON_NUMBERS, or a
            ValueSpec.
        result: The structure of the result, as `_tree.dump_result` writes it.
        mutates_inputs: Whether the graph writes into its arguments.
        fixed: Arguments that are part of the code, such as dtypes, by name.
        writes: The buffers that it writes into, by name.
    """

    module: str
    arguments: dict[str, _tree.Tree]
    leaves: tuple[Leaf, ...]
    symbols: dict[str, Symbol]
    conditions: tuple[str, ...]
    outputs: tuple[str | ValueSpec, ...]
    result: str
    mutates_inputs: bool
    fixed: dict[str, Any]
    writes: tuple[str, ...]

    def spell(self, spec: TensorSpec) -> str:
        """Spell what `spec` admits: `float32[1, tokens, 4]`."""
        sizes = (
            size.spell(self.symbols[size.symbol].name)
            if isinstance(size, Size)
            else size
            for size in spec.sizes
        )
        return spell(spec.dtype, sizes)

    def paths(self) -> list[str]:
        """Name every leaf: `hidden_states`, `added[0]`, `extra['time_ids']`."""
        trees = self.arguments.items()
        return [path for name, tree in trees for path in _tree.paths(tree, name)]
