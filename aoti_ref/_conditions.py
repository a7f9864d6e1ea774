"""Conditions between the sizes of a call, which compiled code takes for granted.

torch.export notes what a module demanded of its sizes (`torch._check`, a branch on a
comparison) beside the graph and not in it: AOTInductor compiles none of it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref import _inductor

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import CodeType

    from torch.export import ExportedProgram

# Arithmetic, comparisons and their conjunctions: all that a condition is made of.
_NODES = (
    ast.Expression,
    ast.Compare,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Name,
    ast.Constant,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.expr_context,
)


def derive(program: ExportedProgram, symbols: set[str]) -> tuple[str, ...]:
    """Write the conditions that `program` holds under as Python, such as `s0 <= s1`.

    Args:
        program: From `torch.export.export`.
        symbols: The symbols that the sizes of a call give; conditions on others,
            such as those that the graph's own values decide, are left out.
    """
    values = (node.meta.get("val") for node in program.graph.nodes)
    sizes: list[Any] = [
        size
        for value in values
        if isinstance(value, torch.Tensor)
        for size in value.shape
    ]
    free = [size for size in sizes if isinstance(size, torch.SymInt)]
    texts = _inductor.conditions(free[0], symbols) if free else []
    return tuple(text for text in dict.fromkeys(texts) if _parse(text) is not None)


def held(text: str, sizes: Mapping[str, int]) -> bool:
    """Whether a condition holds for `sizes`, by symbol."""
    return bool(eval(_compiled(text), {"__builtins__": {}}, dict(sizes)))  # noqa: S307  # _parse admits arithmetic only


def symbols(text: str) -> set[str]:
    """Name the symbols that a condition speaks of."""
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def is_one(text: str, known: Collection[str]) -> bool:
    """Whether `text` is a condition between symbols that are all `known`."""
    try:
        return _parse(text) is not None and symbols(text) <= set(known)
    except (ValueError, RecursionError, MemoryError):  # of Python's own parser
        return False


def spell(text: str, names: Mapping[str, str]) -> str:
    """Spell a condition under the public names of its symbols.

    >>> spell("s0 <= 2*s1", {"s0": "left", "s1": "right"})
    'left <= 2 * right'
    """
    tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return ast.unparse(tree)


_cache: dict[str, CodeType] = {}


def _compiled(text: str) -> CodeType:
    if text not in _cache:
        tree = _parse(text)
        if tree is None:
            message = f"not a condition between sizes: {text!r}"
            raise ValueError(message)
        _cache[text] = compile(tree, "<condition>", "eval")
    return _cache[text]


def _parse(text: str) -> ast.Expression | None:
    """Parse a condition; None where it is more than arithmetic.

    >>> _parse("s0 <= 2*s1") is None, _parse("__import__('os')") is None
    (False, True)
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return None
    plain = all(isinstance(node, _NODES) for node in ast.walk(tree))
    numbers: list[Any] = [
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)
    ]
    whole = all(isinstance(number, int) for number in numbers)
    return tree if plain and whole else None
