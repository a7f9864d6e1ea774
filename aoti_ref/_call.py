"""A recorded call, and the one spelling of a tensor: `float32[1, tokens, 4]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass
class Call:
    """The arguments of one call, in the form in which they were given.

    >>> Call((torch.zeros(3, 4),), {"scale": 2.0})
    Call(float32[3, 4], scale=2.0)
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = [spell_value(value) for value in self.args]
        parts += [f"{key}={spell_value(value)}" for key, value in self.kwargs.items()]
        return f"Call({', '.join(parts)})"


def snapshot(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """Copy a call: containers anew, tensors with their strides, the rest as it is.

    A tensor that is passed twice stays one tensor.
    """
    copies: dict[int, torch.Tensor] = {}

    def copy(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if id(leaf) not in copies:
            # A copy made in inference mode could never take part in autograd.
            with torch.inference_mode(mode=False):
                copied = leaf.detach().clone().requires_grad_(leaf.requires_grad)
            copies[id(leaf)] = copied
        return copies[id(leaf)]

    return Call(pytree.tree_map(copy, args), pytree.tree_map(copy, dict(kwargs)))


def spell(dtype: torch.dtype | str, sizes: Iterable[object]) -> str:
    """Spell a tensor's type.

    >>> spell(torch.float32, (1, "tokens", 4))
    'float32[1, tokens, 4]'
    """
    return f"{str(dtype).removeprefix('torch.')}[{', '.join(map(str, sizes))}]"


def spell_value(value: object) -> str:
    """Spell an argument: a tensor by its type, containers by their leaves."""
    if isinstance(value, torch.Tensor):
        return spell(value.dtype, value.shape)
    if isinstance(value, (list, tuple)):
        inner = ", ".join(spell_value(item) for item in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key!r}: {spell_value(v)}" for key, v in value.items())
        return f"{{{inner}}}"
    return repr(value)
