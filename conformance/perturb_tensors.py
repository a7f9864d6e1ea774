"""Perturbations of the tensors of a call: dtype, sizes, memory, kind."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from conformance.adapter import Call

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from conformance.perturb import Good

    Change = Callable[[torch.Tensor, random.Random], torch.Tensor | None]

_LARGEST = 1 << 20  # elements


class Negated(torch.Tensor):
    """A wrapper subclass: it stands for the negative of its data."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        def meant(leaf: Negated) -> torch.Tensor:
            return -leaf.as_subclass(torch.Tensor)

        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001  # as torch documents
            args, kwargs = pytree.tree_map_only(Negated, meant, (args, kwargs or {}))
            return func(*args, **kwargs)


def _one(change: Change) -> Callable[[Good], Call | None]:
    """Change one tensor of a call."""

    def changed(good: Good) -> Call | None:
        leaves, spec = pytree.tree_flatten((tuple(good.args), good.kwargs))
        found = [i for i, x in enumerate(leaves) if isinstance(x, torch.Tensor)]
        if not found:
            return None
        at = good.draw.choice(found)
        new = change(leaves[at], good.draw)
        if new is None:
            return None
        leaves[at] = new
        return Call(*pytree.tree_unflatten(leaves, spec))

    return changed


def _resized(x: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """Repeat or cut `x` along `dim`."""
    places = torch.arange(size, device=x.device) % max(x.shape[dim], 1)
    if not x.shape[dim]:
        return x.new_zeros([*x.shape[:dim], size, *x.shape[dim + 1 :]])
    return x.index_select(dim, places)


def _dtype(x: torch.Tensor, draw: random.Random) -> torch.Tensor:
    kinds = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
    kinds += [torch.int64, torch.int32, torch.bool, torch.complex64]
    return x.to(draw.choice([kind for kind in kinds if kind is not x.dtype]))


def _rank(x: torch.Tensor, draw: random.Random) -> torch.Tensor:
    ways = [x[None], x[..., None], x.flatten() if x.ndim != 1 else x[None, None]]
    if x.ndim and x.numel():
        ways += [x[0], x.flatten()[0]]
    return draw.choice(ways)


def _size_by_one(x: torch.Tensor, draw: random.Random) -> torch.Tensor | None:
    if not x.ndim:
        return None
    dim = draw.randrange(x.ndim)
    return _resized(x, dim, max(x.shape[dim] + draw.choice([-1, 1]), 0))


def _size_one(x: torch.Tensor, draw: random.Random) -> torch.Tensor | None:
    wide = [dim for dim in range(x.ndim) if x.shape[dim] > 1]
    return _resized(x, draw.choice(wide), 1) if wide else None


def _empty(x: torch.Tensor, draw: random.Random) -> torch.Tensor | None:
    return _resized(x, draw.randrange(x.ndim), 0) if x.ndim else None


def _far_size(x: torch.Tensor, draw: random.Random) -> torch.Tensor | None:
    if not x.ndim:
        return None
    dim = draw.randrange(x.ndim)
    size = x.shape[dim] * draw.choice([2, 3, 10]) + draw.choice([0, 1])
    return _resized(x, dim, size) if x.numel() * 31 < _LARGEST else None


def _together(good: Good) -> Call | None:
    """Change a size wherever it stands, so that all tensors still fit each other."""
    leaves, spec = pytree.tree_flatten((tuple(good.args), good.kwargs))
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    sizes = sorted({size for x in tensors for size in x.shape})
    if not sizes or sum(x.numel() for x in tensors) * 9 > _LARGEST:
        return None
    old = good.draw.choice(sizes)
    new = max(good.draw.choice([old - 1, old + 1, 2 * old, 3 * old + 1, 1]), 0)

    def change(x: torch.Tensor) -> torch.Tensor:
        for dim, size in enumerate(x.shape):
            x = _resized(x, dim, new) if size == old else x
        return x

    found = [change(x) if isinstance(x, torch.Tensor) else x for x in leaves]
    return Call(*pytree.tree_unflatten(found, spec))


def _poison(x: torch.Tensor) -> Any:
    if x.dtype is torch.bool:
        return True
    if x.is_floating_point() or x.is_complex():
        return float("nan")
    return torch.iinfo(x.dtype).max


def _inside(x: torch.Tensor, draw: random.Random) -> torch.Tensor:
    """Put `x` into the middle of a buffer of poison, not aligned to anything."""
    before = draw.choice([1, 3, 7])
    buffer = x.new_full((before + x.numel() + 9,), _poison(x))
    placed = buffer[before : before + x.numel()].view(x.shape)
    placed.copy_(x)
    return placed


def _sliced(x: torch.Tensor, draw: random.Random) -> torch.Tensor | None:
    """Give `x` gaps of poison along one dimension."""
    if not x.ndim:
        return None
    dim = draw.randrange(x.ndim)
    shape = list(x.shape)
    shape[dim] = 2 * shape[dim] + 1
    buffer = x.new_full(shape, _poison(x))
    every = [slice(None)] * x.ndim
    every[dim] = slice(1, None, 2)
    placed = buffer[tuple(every)]
    placed.copy_(x)
    return placed


def _turned(x: torch.Tensor, draw: random.Random) -> torch.Tensor | None:
    """Lay `x` out in another order of its dimensions."""
    if x.ndim < 2:  # noqa: PLR2004
        return None
    order = list(range(x.ndim))
    draw.shuffle(order)
    back = [order.index(dim) for dim in range(x.ndim)]
    return x.permute(order).contiguous().permute(back)


def _expanded(x: torch.Tensor, draw: random.Random) -> torch.Tensor | None:
    wide = [dim for dim in range(x.ndim) if x.shape[dim] > 1]
    if not wide:
        return None
    dim = draw.choice(wide)
    return x.narrow(dim, 0, 1).expand(x.shape)


def _aliased(good: Good) -> Call | None:
    """Give one tensor twice, in places that want the same type."""
    leaves, spec = pytree.tree_flatten((tuple(good.args), good.kwargs))
    kinds: dict[Any, list[int]] = {}
    for at, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor):
            kinds.setdefault((leaf.dtype, leaf.shape), []).append(at)
    twins = [places for places in kinds.values() if len(places) > 1]
    if not twins:
        return None
    one, other = good.draw.sample(good.draw.choice(twins), 2)
    leaves[one] = leaves[other]
    return Call(*pytree.tree_unflatten(leaves, spec))


def _conjugated(x: torch.Tensor, _draw: random.Random) -> torch.Tensor | None:
    if x.is_complex():
        return x.conj()
    if x.dtype is not torch.float32:
        return None
    return torch.complex(torch.zeros_like(x), -x).conj().imag  # negated on reading


def _wanting_gradients(x: torch.Tensor, _draw: random.Random) -> torch.Tensor | None:
    if not x.is_floating_point():
        return None
    return x.detach().clone().requires_grad_()


def _of_inference(x: torch.Tensor, _draw: random.Random) -> torch.Tensor:
    with torch.inference_mode():
        return x.clone()


def _sparse(x: torch.Tensor, _draw: random.Random) -> torch.Tensor | None:
    return x.to_sparse() if x.ndim else None


def _quantised(x: torch.Tensor, _draw: random.Random) -> torch.Tensor | None:
    if x.dtype is not torch.float32:
        return None
    with warnings.catch_warnings():  # torch gives them up, and still takes them
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(x.cpu(), 0.1, 0, torch.qint8)


def _of_a_subclass(x: torch.Tensor, _draw: random.Random) -> torch.Tensor | None:
    return x.as_subclass(Negated) if x.is_floating_point() else None


# By name: how to change a call, and whether it still keeps the contract.
TENSORS: dict[str, tuple[Callable[[Good], Call | None], bool]] = {
    "dtype": (_one(_dtype), False),
    "rank": (_one(_rank), False),
    "size by one": (_one(_size_by_one), False),
    "size one": (_one(_size_one), False),
    "empty": (_one(_empty), False),
    "far size": (_one(_far_size), False),
    "sizes together": (_together, False),
    "inside a buffer": (_one(_inside), True),
    "sliced": (_one(_sliced), True),
    "turned": (_one(_turned), True),
    "expanded": (_one(_expanded), True),
    "aliased": (_aliased, True),
    "conjugated": (_one(_conjugated), False),
    "wanting gradients": (_one(_wanting_gradients), False),
    "of inference mode": (_one(_of_inference), True),
    "meta": (_one(lambda x, _draw: x.to("meta")), False),
    "sparse": (_one(_sparse), False),
    "quantised": (_one(_quantised), False),
    "subclass": (_one(_of_a_subclass), False),
}
