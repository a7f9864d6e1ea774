"""The quick way through a check, for forms of call that were seen before.

A check that can name what is wrong costs tens of microseconds, most of them for
binding the signature. A plan knows where each leaf of a form stands, and says yes
or nothing: whoever hears nothing asks the check.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _conditions, _tree
from aoti_ref._contract import Contract, Leaf, Size, TensorSpec, ValueSpec, same

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


# What a graph takes for a tensor; a subclass may mean something else by `+`.
PLAIN = frozenset({torch.Tensor, torch.nn.Parameter, torch.nn.Buffer})
_STRIDED = torch.strided


class _Place(NamedTuple):
    """Where an argument stands among the values of a form."""

    at: int


class _Tensor(NamedTuple):
    """A tensor of the graph: where it stands, and what it must be."""

    at: int
    dtype: torch.dtype
    on_cpu: bool
    shape: tuple[int, ...] | None  # None where a size varies
    sizes: tuple[int | tuple[str, int, int, int, int], ...]
    order: tuple[int, ...]
    dense: bool  # whether `order` is that of the dimensions


class _Nested(NamedTuple):
    """A value to take apart: where it stands, and its tree.

    Where it is a tuple or a list of leaves, as most are, `kind` and `length` say so: to
    go through the tree costs more.
    """

    at: int
    tree: _tree.Tree
    kind: type | None
    length: int


class Plan:
    """Takes the tensors out of the values of calls of one form.

    Args:
        nested: Values to take apart. Their leaves stand behind all values, in order.
        tensors: What the graph needs, in its own order.
        others: Where other values stand, and what they must be.
        conditions: What must hold between sizes.
    """

    def __init__(
        self,
        nested: list[_Nested],
        tensors: list[_Tensor],
        others: list[tuple[int, Any]],
        conditions: tuple[str, ...],
    ) -> None:
        self._nested = nested
        self._tensors = tensors
        self._others = others
        self._conditions = conditions

    def __call__(self, values: list[Any]) -> list[torch.Tensor] | None:
        """Give the graph's inputs; None where the call may be wrong.

        Args:
            values: The positional arguments, then the keywords' in their order;
                leaves are added to it.
        """
        for at, tree, kind, length in self._nested:
            if type(values[at]) is kind and len(values[at]) == length:
                values.extend(values[at])
                continue
            faults: list[Any] = []
            _tree.flatten(tree, values[at], "", values, faults)
            if faults:
                return None
        for at, wanted in self._others:
            if values[at] is not wanted and not same(values[at], wanted):
                return None
        return self._inputs(values)

    def _inputs(self, values: list[Any]) -> list[torch.Tensor] | None:
        inputs: list[torch.Tensor] = []
        roots: dict[str, int] = {}
        # Every attribute of a tensor costs 50 ns: this is most of what a call costs.
        for at, dtype, on_cpu, shape, sizes, order, dense in self._tensors:
            leaf = values[at]
            if (
                type(leaf) not in PLAIN
                or leaf.dtype is not dtype
                or not (leaf.is_cpu if on_cpu else leaf.is_cuda)
                or leaf.layout is not _STRIDED
                or (
                    leaf.shape != shape
                    and (shape is not None or not _sized(leaf.shape, sizes, roots))
                )
            ):
                return None
            if dense and leaf.is_contiguous() and not leaf.is_neg():
                inputs.append(leaf)
            else:
                inputs.append(laid_out(leaf, order, dense=dense))
        if torch.is_grad_enabled():
            for leaf in inputs:
                if leaf.requires_grad:
                    return None
        for text in self._conditions:
            if not _conditions.held(text, roots):
                return None
        return inputs


class Never(Plan):
    """Takes no call: it stands for a form that no good call has."""

    def __init__(self) -> None:
        super().__init__([], [], [], ())

    def __call__(self, values: list[Any]) -> None:
        """Say no."""


def draw(
    contract: Contract,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Plan | None:
    """Draw the plan for calls of the form of one: its number of arguments, and names.

    Returns:
        None where every call must be looked at closely: the graph writes into its
        arguments, a tensor is a default, or a device is not among those that
            tensors have a flag for.
    """
    devices = {x.device for x in contract.leaves if isinstance(x, TensorSpec)}
    if contract.mutates_inputs or devices - {"cpu", "cuda"}:
        return None
    given = _given(signature, len(args), kwargs)
    if given is None or not contract.arguments.keys() <= given.keys():
        return Never()
    wants = _wants(contract)
    left_out = {n: v for n, v in given.items() if not isinstance(v, _Place)}
    known = [value for name, value in left_out.items() if name in wants]
    if any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(known)):
        return None
    fixed = {n: _fixed(contract, signature, n) for n in given if n not in wants}
    holds = all(
        _holds(contract.arguments[name], value, wants[name])
        if name in wants
        else same(value, fixed[name])
        for name, value in left_out.items()
    )
    if not holds:
        return Never()
    nested: list[_Nested] = []
    wanted: list[_Tensor] = []
    others = [(given[n].at, v) for n, v in fixed.items() if n not in left_out]
    end = len(args) + len(kwargs)
    for name, leaves in wants.items():
        if name in left_out:
            continue
        tree, spots = contract.arguments[name], [given[name].at]
        if not isinstance(tree, str):  # no leaf
            nested.append(_taken_apart(given[name].at, tree))
            spots = list(range(end, end + len(leaves)))
            end += len(spots)
        for spot, want in zip(spots, leaves, strict=True):
            if isinstance(want, TensorSpec):
                wanted.append(_ready(spot, want, contract))
            else:
                others.append((spot, want.value))
    return Plan(nested, wanted, others, contract.conditions)


def _taken_apart(at: int, tree: list[Any]) -> _Nested:
    kind, children = tree
    known = {"tuple": tuple, "list": list}.get(kind)
    flat = known is not None and all(child == _tree.LEAF for child in children)
    return _Nested(at, tree, known if flat else None, len(children))


def _fixed(contract: Contract, signature: inspect.Signature, name: str) -> Any:
    """Give the value that an argument must have which the graph does not know."""
    # What `**named` gathers has no default.
    parameter = signature.parameters.get(name)
    default = parameter.default if parameter else inspect.Parameter.empty
    return contract.fixed.get(name, default)


def _given(
    signature: inspect.Signature, count: int, names: Iterable[str]
) -> dict[str, Any] | None:
    """Say where each argument of a form stands, or what its default is.

    Returns:
        None where the form does not fit the signature.
    """
    places = [_Place(index) for index in range(count)]
    named = {name: _Place(count + index) for index, name in enumerate(names)}
    try:
        bound = signature.bind(*places, **named)
    except TypeError:
        return None
    bound.apply_defaults()
    return _tree.spread(signature, bound.arguments)


def _wants(contract: Contract) -> dict[str, list[Leaf]]:
    """Give the leaves of each argument."""
    left = iter(contract.leaves)
    return {
        name: [next(left) for _ in _tree.paths(tree, name)]
        for name, tree in contract.arguments.items()
    }


def _holds(tree: _tree.Tree, value: Any, wants: list[Leaf]) -> bool:
    """Whether a default, which has no tensors, is what a graph wants."""
    leaves: list[Any] = []
    faults: list[Any] = []
    _tree.flatten(tree, value, "", leaves, faults)
    return not faults and all(
        isinstance(want, ValueSpec) and same(leaf, want.value)
        for leaf, want in zip(leaves, wants, strict=True)
    )


def laid_out(
    leaf: torch.Tensor, order: tuple[int, ...], *, dense: bool
) -> torch.Tensor:
    """Give a tensor the strides that the graph has baked in, copied where it must."""
    if leaf.is_conj() or leaf.is_neg():
        leaf = leaf.resolve_conj().resolve_neg()
    if dense:
        return leaf.contiguous()  # itself, where it is
    ordered = leaf.permute(order)
    if ordered.is_contiguous():
        return leaf
    back = sorted(range(leaf.ndim), key=order.__getitem__)
    return ordered.contiguous().permute(back)


def _ready(at: int, want: TensorSpec, contract: Contract) -> _Tensor:
    sizes = tuple(
        (size.symbol, size.times, size.plus, *contract.symbols[size.symbol][1:])
        if isinstance(size, Size)
        else size
        for size in want.sizes
    )
    fixed = tuple(size for size in sizes if isinstance(size, int))
    return _Tensor(
        at=at,
        dtype=getattr(torch, want.dtype),
        on_cpu=want.device == "cpu",
        shape=fixed if len(fixed) == len(sizes) else None,
        sizes=sizes,
        order=want.order,
        dense=want.order == tuple(range(len(sizes))),
    )


def _sized(
    shape: torch.Size,
    wants: tuple[int | tuple[str, int, int, int, int], ...],
    roots: dict[str, int],
) -> bool:
    if len(shape) != len(wants):
        return False
    for size, wanted in zip(shape, wants, strict=True):
        if isinstance(wanted, int):
            if size != wanted:
                return False
            continue
        symbol, times, plus, low, high = wanted
        root, rest = divmod(size - plus, times)
        if rest or not low <= root <= high or roots.setdefault(symbol, root) != root:
            return False
    return True
