"""Calls that are not quite the good one: what users, pipelines and bugs make of it.

A perturbation gives the same call for the same seed, so that two of them, one for
eager and one for compiled code, share no memory, and a finding can be repeated.
"""

from __future__ import annotations

import copy
import inspect
import random
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from conformance.adapter import Call
from conformance.perturb_tensors import TENSORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


class Good(NamedTuple):
    """A good call, ready to be spoilt.

    Args:
        args: Positional arguments.
        kwargs: Keyword arguments.
        signature: Of the method that is called.
        draw: Where all choices come from.
    """

    args: list[Any]
    kwargs: dict[str, Any]
    signature: inspect.Signature
    draw: random.Random


class Kind(NamedTuple):
    """A kind of perturbation.

    Args:
        change: Spoils a call; None where it cannot spoil this one.
        keeps: Whether the call still keeps the contract, so that it must be
            answered.
    """

    change: Callable[[Good], Call | None]
    keeps: bool = False


def perturbed(module: nn.Module, call: Any, kind: str, seed: int) -> Call | None:
    """Make the call that `kind` makes of a copy of `call`; None if it makes none."""
    copied = copy.deepcopy(call)
    signature = inspect.signature(module.forward)
    draw = random.Random(seed)  # noqa: S311  # it is for repeating, not for secrets
    good = Good(list(copied.args), dict(copied.kwargs), signature, draw)
    return KINDS[kind].change(good)


def _as_it_is(good: Good) -> Call:
    return Call(tuple(good.args), good.kwargs)


def _other_values(good: Good) -> Call:
    generator = torch.Generator().manual_seed(good.draw.randrange(2**31))

    def renew(leaf: torch.Tensor) -> torch.Tensor:
        if leaf.is_floating_point() or leaf.is_complex():
            drawn = torch.randn(leaf.shape, dtype=leaf.dtype, generator=generator)
            return drawn.to(leaf.device)
        order = torch.randperm(leaf.numel(), generator=generator)
        return leaf.flatten()[order.to(leaf.device)].reshape(leaf.shape)

    args, kwargs = pytree.tree_map_only(
        torch.Tensor, renew, (tuple(good.args), good.kwargs)
    )
    return Call(args, kwargs)


def _positional(good: Good) -> list[str]:
    """Name the parameters that can be given by position; none where `*more` gathers."""
    parameters = good.signature.parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return []
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def _by_keyword(good: Good) -> Call | None:
    names = _positional(good)
    if not good.args or len(names) < len(good.args):
        return None
    kept = good.draw.randrange(len(good.args))
    moved = dict(zip(names[kept:], good.args[kept:], strict=False))
    return Call(tuple(good.args[:kept]), {**moved, **good.kwargs})


def _by_position(good: Good) -> Call | None:
    args, kwargs = list(good.args), dict(good.kwargs)
    for name in _positional(good)[len(args) :]:
        if name not in kwargs:
            break
        args.append(kwargs.pop(name))
    return Call(tuple(args), kwargs) if len(args) > len(good.args) else None


def _reordered(good: Good) -> Call | None:
    def shuffle(found: dict[str, Any]) -> dict[str, Any]:
        keys = list(found)
        good.draw.shuffle(keys)
        inner = {k: shuffle(v) if type(v) is dict else v for k, v in found.items()}
        return {key: inner[key] for key in keys}

    return Call(tuple(good.args), shuffle(good.kwargs)) if good.kwargs else None


def _defaults_spelt(good: Good) -> Call | None:
    bound = good.signature.bind(*good.args, **good.kwargs)
    given = set(bound.arguments)
    bound.apply_defaults()
    left = {
        name: value
        for name, value in bound.arguments.items()
        if name not in given
        and good.signature.parameters[name].kind
        in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    return Call(tuple(good.args), {**good.kwargs, **left}) if left else None


def _dropped(good: Good) -> Call | None:
    places = len(good.args) + len(good.kwargs)
    at = good.draw.randrange(places) if places else 0
    if at < len(good.args):
        del good.args[at]
    elif good.kwargs:
        del good.kwargs[list(good.kwargs)[at - len(good.args)]]
    return _as_it_is(good) if places else None


def _added(good: Good) -> Call:
    value = good.draw.choice([None, 1, True, torch.zeros(2)])
    return Call(tuple(good.args), {**good.kwargs, "no_such_argument": value})


def _surplus(good: Good) -> Call:
    value = good.draw.choice([None, 1, torch.zeros(2)])
    return Call((*good.args, value), good.kwargs)


def _renamed(good: Good) -> Call | None:
    if not good.kwargs:
        return None
    name = good.draw.choice(list(good.kwargs))
    return Call(
        tuple(good.args),
        {f"{k}_" if k == name else k: v for k, v in good.kwargs.items()},
    )


def _swapped(good: Good) -> Call | None:
    """Exchange two arguments."""
    places: list[Any] = [*range(len(good.args)), *good.kwargs]
    if len(places) < 2:  # noqa: PLR2004
        return None
    one, other = good.draw.sample(places, 2)
    values: dict[Any, Any] = {**dict(enumerate(good.args)), **good.kwargs}
    values[one], values[other] = values[other], values[one]
    args = tuple(values.pop(i) for i in range(len(good.args)))
    return Call(args, values)


def _leaves_changed(
    wanted: Callable[[Any], bool], change: Callable[[Any, random.Random], Any]
) -> Callable[[Good], Call | None]:
    """Change one leaf among those that are `wanted`, defaults included."""

    def changed(good: Good) -> Call | None:
        bound = good.signature.bind(*good.args, **good.kwargs)
        given = set(bound.arguments)
        bound.apply_defaults()
        defaults = {n: v for n, v in bound.arguments.items() if n not in given}
        tree = tuple(good.args), good.kwargs
        leaves, spec = pytree.tree_flatten(tree, is_leaf=lambda x: x is None)
        places: list[Any] = [i for i, leaf in enumerate(leaves) if wanted(leaf)]
        places += [name for name, value in defaults.items() if wanted(value)]
        if not places:
            return None
        at = good.draw.choice(places)
        if isinstance(at, str):
            more = {at: change(defaults[at], good.draw)}
            return Call(tuple(good.args), {**good.kwargs, **more})
        leaves[at] = change(leaves[at], good.draw)
        return Call(*pytree.tree_unflatten(leaves, spec))

    return changed


def _is_scalar(leaf: object) -> bool:
    return isinstance(leaf, (bool, int, float, str))


def _other_value(leaf: Any, draw: random.Random) -> Any:
    if isinstance(leaf, bool):
        return not leaf
    if isinstance(leaf, str):
        return draw.choice([leaf + "x", "", leaf.upper() + "_"])
    return draw.choice([leaf + 1, -leaf - 1, 0 if leaf else 7, leaf * 2 + 1])


def _other_type(leaf: Any, _draw: random.Random) -> Any:
    if isinstance(leaf, bool):
        return int(leaf)
    if isinstance(leaf, int):
        return float(leaf)
    return str(leaf) if isinstance(leaf, float) else leaf.encode()


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor)


def _structure(good: Good) -> Call | None:
    """Turn a list into a tuple, or back; shorten or lengthen it; lose a key."""
    values: dict[Any, Any] = {**dict(enumerate(good.args)), **good.kwargs}
    found = [k for k, v in values.items() if isinstance(v, (list, tuple, dict)) and v]
    if not found:
        return None
    at = good.draw.choice(found)
    old = values[at]
    values[at] = good.draw.choice(_RESHAPES)(old)
    args = tuple(values.pop(i) for i in range(len(good.args)))
    return Call(args, values)


_RESHAPES: list[Callable[[Any], Any]] = [
    lambda v: list(v.items()) if isinstance(v, dict) else [*v, *v[:1]],
    lambda v: dict(list(v.items())[1:]) if isinstance(v, dict) else list(v)[1:],
    lambda v: {**v, "more": next(iter(v.values()))} if isinstance(v, dict) else v[::-1],
    lambda v: list(v) if isinstance(v, tuple) else tuple(v),
    lambda v: [v],
]

KINDS: dict[str, Kind] = {
    "as it is": Kind(_as_it_is, keeps=True),
    "other values": Kind(_other_values, keeps=True),
    "by keyword": Kind(_by_keyword, keeps=True),
    "by position": Kind(_by_position, keeps=True),
    "reordered": Kind(_reordered, keeps=True),
    "defaults spelt": Kind(_defaults_spelt, keeps=True),
    "dropped": Kind(_dropped),
    "added": Kind(_added),
    "surplus": Kind(_surplus),
    "renamed": Kind(_renamed),
    "swapped": Kind(_swapped),
    "structure": Kind(_structure),
    "scalar value": Kind(_leaves_changed(_is_scalar, _other_value)),
    "scalar type": Kind(_leaves_changed(_is_scalar, _other_type)),
    "tensor for scalar": Kind(
        _leaves_changed(
            lambda leaf: _is_scalar(leaf) and not isinstance(leaf, str),
            lambda leaf, _draw: torch.tensor(leaf),
        )
    ),
    "tensor for none": Kind(
        _leaves_changed(lambda leaf: leaf is None, lambda _leaf, _draw: torch.ones(1))
    ),
    "none for tensor": Kind(_leaves_changed(_is_tensor, lambda _leaf, _draw: None)),
    "number for tensor": Kind(
        _leaves_changed(_is_tensor, lambda _leaf, draw: draw.choice([1, 0.5, True]))
    ),
} | {name: Kind(change, keeps=keeps) for name, (change, keeps) in TENSORS.items()}
