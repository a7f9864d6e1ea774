"""The domain of a graph: the calls that its contract admits, spelt and compared."""

from __future__ import annotations

import itertools
import math
import random
from typing import TYPE_CHECKING, Any

from aoti_ref import _conditions
from aoti_ref._call import spell_value
from aoti_ref._contract import Contract, Leaf, Size, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MOST_POINTS = 20_000  # 0.1 s
_ENDLESS = 1 << 62


def spell(contract: Contract) -> str:
    """Spell the calls that a graph takes: `(x: float32[rows, 8]), rows in 2..9`."""
    pairs = zip(contract.paths(), contract.leaves, strict=True)
    parts = [
        f"{path}: {contract.spell(leaf)}"
        if isinstance(leaf, TensorSpec)
        else f"{path} = {spell_value(leaf.value)}"
        for path, leaf in pairs
    ]
    parts += [f"{n} = {spell_value(value)}" for n, value in contract.fixed.items()]
    sizes = [
        f"{name} in {low}..{high if high < _ENDLESS else ''}"
        for name, low, high in contract.symbols.values()
    ]
    names = {symbol: found.name for symbol, found in contract.symbols.items()}
    held = [_conditions.spell(text, names) for text in contract.conditions]
    return ", ".join([f"({', '.join(parts)})", *sizes, *held])


def takers(domain: Contract, before: Sequence[Contract]) -> list[int]:
    """Find who takes all calls of a domain, if it is asked after others.

    Sizes are compared at the ends of all ranges and around them: a call that only
    `domain` takes shows there, if there is one. Where those are too many, some are
    drawn, and whoever is not plainly contained in one other counts as asked.

    Args:
        domain: What a graph takes.
        before: What those take that are asked first.

    Returns:
        Their numbers in `before`; none, where calls are left for `domain`.
    """
    rivals = {n: c for n, c in enumerate(before) if _alike(c, domain)}
    if not rivals:
        return []
    points, all_of_them = _points(domain, rivals.values())
    found: dict[int, None] = {}
    for roots in points:
        shapes = [
            tuple(_at(size, roots) for size in spec.sizes) for spec in _tensors(domain)
        ]
        taker = next((n for n, c in rivals.items() if _takes(c, shapes)), None)
        if taker is None:
            return []
        found[taker] = None
    if not all_of_them and (len(found) > 1 or any(rivals[n].conditions for n in found)):
        return []
    return sorted(found)


def _alike(contract: Contract, other: Contract) -> bool:
    """Whether two contracts differ in nothing but sizes."""
    if contract.mutates_inputs and not other.mutates_inputs:
        return False
    strict = contract.mutates_inputs  # it refuses what it would have to copy
    return (
        list(contract.arguments.items()) == list(other.arguments.items())
        and _values(contract.fixed) == _values(other.fixed)
        and len(contract.leaves) == len(other.leaves)
        and all(
            _kind(a, strict=strict) == _kind(b, strict=strict)
            for a, b in zip(contract.leaves, other.leaves, strict=True)
        )
    )


def _values(fixed: dict[str, Any]) -> dict[str, tuple[type, str]]:
    return {name: (type(value), repr(value)) for name, value in fixed.items()}


def _kind(leaf: Leaf, *, strict: bool) -> tuple[Any, ...]:
    if isinstance(leaf, TensorSpec):
        order = leaf.order if strict else ()
        return leaf.dtype, leaf.device, len(leaf.sizes), order
    return type(leaf.value), repr(leaf.value)  # zeros have signs, and NaN is NaN


def _tensors(contract: Contract) -> list[TensorSpec]:
    return [leaf for leaf in contract.leaves if isinstance(leaf, TensorSpec)]


def _at(size: int | Size, roots: dict[str, int]) -> int:
    if isinstance(size, int):
        return size
    return size.times * roots[size.symbol] + size.plus


def _takes(contract: Contract, shapes: list[tuple[int, ...]]) -> bool:
    """Whether a contract admits these sizes of its tensors."""
    roots: dict[str, int] = {}
    for spec, shape in zip(_tensors(contract), shapes, strict=True):
        for want, size in zip(spec.sizes, shape, strict=True):
            if isinstance(want, int):
                if size != want:
                    return False
                continue
            _, low, high = contract.symbols[want.symbol]
            root, rest = divmod(size - want.plus, want.times)
            if rest or not low <= root <= high:
                return False
            if roots.setdefault(want.symbol, root) != root:
                return False
    return all(_conditions.held(text, roots) for text in contract.conditions)


def _points(
    domain: Contract, rivals: Iterable[Contract]
) -> tuple[Iterator[dict[str, int]], bool]:
    """Give sizes that a domain admits, where others begin or end; and whether all."""
    met: dict[str, set[int]] = {}
    for symbol, (_, low, high) in domain.symbols.items():
        met[symbol] = {*range(low, low + 9), *range(high - 2, high + 1)}
    for rival in rivals:
        for own, other in zip(_tensors(domain), _tensors(rival), strict=True):
            for size, want in zip(own.sizes, other.sizes, strict=True):
                if isinstance(size, Size):
                    met[size.symbol] |= _edges(size, want, rival)
    names = list(met)
    values = [
        sorted(n for n in met[name] if low <= n <= high)
        for name, (_, low, high) in domain.symbols.items()
    ]
    found: Iterable[tuple[int, ...]] = itertools.product(*values)
    all_of_them = math.prod(map(len, values)) <= _MOST_POINTS
    if not all_of_them:
        draw = random.Random(0).choice  # noqa: S311  # no secret
        found = (tuple(map(draw, values)) for _ in range(_MOST_POINTS))
    points = (dict(zip(names, point, strict=True)) for point in found)
    held = (
        roots
        for roots in points
        if all(_conditions.held(text, roots) for text in domain.conditions)
    )
    return held, all_of_them


def _edges(size: Size, want: int | Size, rival: Contract) -> set[int]:
    """Give roots of a size near the ends of what a rival wants there."""
    ends = [want]
    if isinstance(want, Size):
        _, low, high = rival.symbols[want.symbol]
        ends = [_at(want, {want.symbol: end}) for end in (low, high)]
    roots = [(_at(end, {}) - size.plus) // size.times for end in ends]
    return {root + step for root in roots for step in (-1, 0, 1, 2)}
