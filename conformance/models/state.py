"""Modules that write to their own tensors, or keep them where nobody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from conformance.models.blocks import normal
from conformance.models.constants import FEW

if TYPE_CHECKING:
    from typing_extensions import Self

ROWS = 2


class Stateful(nn.Module):
    """Floating state, written in every way.

    `forward` takes float32[2, 4] and returns the same. All numbers are such that
    sums of them have no rounding.
    """

    mean: torch.Tensor
    last: torch.Tensor
    wide: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Identity()
        self.register_buffer("mean", torch.zeros(FEW))
        self.register_buffer("last", torch.zeros(ROWS, FEW), persistent=False)
        self.register_buffer("wide", torch.zeros(ROWS, 2 * FEW))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        self.mean.mul_(0.5).add_(x.sum(0))
        y = x + self.last
        self.last = x + self.mean
        self.wide[:, :FEW].add_(x)
        return y + self.mean + self.wide[:, 2 : 2 + FEW]


class Counting(Stateful):
    """A Stateful that counts its calls, too, and fills a row of a cache at each.

    It is apart because a layer that cannot hold integers would fail every clause.
    """

    calls: torch.Tensor
    flag: torch.Tensor
    ring: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("flag", torch.tensor([False, True, False, True]))
        self.register_buffer("ring", torch.zeros(3, FEW), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        self.ring.index_copy_(0, (self.calls % 3).view(1), x[:1])
        self.calls += 1
        self.flag.logical_not_()
        return y + self.ring.sum(0) + self.flag * self.calls


class Sharing(nn.Module):
    """It reads `base` and its argument before and after it writes to `total`.

    Code that takes the three for separate tensors reads one value of each, and is
    wrong wherever two of them are one.
    """

    total: torch.Tensor
    base: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Identity()
        self.register_buffer("total", torch.zeros(FEW))
        self.register_buffer("base", torch.ones(FEW))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.entry(x)
        before = x * self.base
        self.total.add_(1.0)
        return before + self.base + x


class Noting(nn.Module):
    """It counts in a plain tensor, which is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Identity()
        self.note = torch.zeros(FEW)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.note.add_(1.0)
        return self.entry(x) + self.note  # type: ignore[no-any-return]


class Learning(nn.Module):
    """It counts in a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Identity()
        self.note = nn.Parameter(torch.zeros(FEW), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.note.add_(1.0)
        return self.entry(x) + self.note  # type: ignore[no-any-return]


class Doubly(nn.Module):
    """It counts in a buffer that it has under two names."""

    note: torch.Tensor
    alias: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Identity()
        self.register_buffer("note", torch.zeros(FEW))
        self.register_buffer("alias", self.note)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.note.add_(1.0)
        return self.entry(x) * self.alias + self.note  # type: ignore[no-any-return]


class Returning(nn.Module):
    """It returns tensors of its own beside its answer."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(FEW, FEW)
        self.register_buffer("table", torch.ones(FEW))
        self.plain = normal(FEW, seed=23)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        own = self.proj.weight, self.proj.bias[1:], self.table, self.plain
        return (self.proj(x), *own)


class Box:
    """An object that is no module and holds a tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class Boxed(nn.Module):
    """It holds a tensor in something that torch does not look into.

    Args:
        kind: `list`, `dict`, `nested` or `object`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.config = {"kind": kind}
        self.proj = nn.Linear(FEW, FEW)
        tensor = normal(FEW, seed=24)
        kinds = {"list": [tensor], "dict": {"t": tensor}, "nested": {"t": [tensor]}}
        self.boxes: Any = kinds.get(kind)
        if kind == "object":
            self.boxes = Box(tensor)

    def held(self) -> torch.Tensor:
        """Give the tensor."""
        boxes = vars(self.boxes) if isinstance(self.boxes, Box) else self.boxes
        (found,) = pytree.tree_leaves(boxes)
        return found  # type: ignore[no-any-return]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x) + self.held()  # type: ignore[no-any-return]


class Quantised(torch.Tensor):
    """A weight of bytes and one scale, as libraries for quantisation make them."""

    content: torch.Tensor
    scale: torch.Tensor

    def __new__(cls, content: torch.Tensor, scale: torch.Tensor) -> Self:
        made: Self = torch.Tensor._make_wrapper_subclass(
            cls, content.shape, dtype=scale.dtype, device=content.device
        )
        made.content, made.scale = content, scale
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["content", "scale"], None

    @classmethod
    def __tensor_unflatten__(
        cls, inner: dict[str, torch.Tensor], _context: None, _size: Any, _stride: Any
    ) -> Quantised:
        return cls(inner["content"], inner["scale"])

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        copies = torch.ops.aten.detach.default, torch.ops.aten.clone.default
        if func in copies:
            return cls(args[0].content.clone(), args[0].scale.clone())
        if func is torch.ops.aten._to_copy.default:  # `Module.double` wants its like
            dtype = (kwargs or {}).get("dtype") or args[0].scale.dtype
            return cls(args[0].content.clone(), args[0].scale.to(dtype))
        plain = pytree.tree_map_only(
            cls, lambda q: q.content.to(q.scale.dtype) * q.scale, (args, kwargs or {})
        )
        return func(*plain[0], **plain[1])


def quantise(weight: torch.Tensor) -> Quantised:
    """Round a weight to bytes, with a scale for all of it."""
    scale = weight.abs().max() / 127
    return Quantised((weight / scale).round().to(torch.int8), scale)


# Constants of Rare, and what each of them is.
RARE = {
    "turns": torch.complex64,
    "exact": torch.float64,
    "codes": torch.int8,
    "counts": torch.int64,
}


def rare(name: str, seed: int = 0) -> torch.Tensor:
    """Draw a constant of Rare; none has bits that a narrower dtype could do without."""
    drawn = normal(FEW, seed=seed + 41)
    if name == "turns":
        return torch.complex(drawn, normal(FEW, seed=seed + 42))
    if name == "exact":
        return drawn.double() / 7
    if name == "codes":
        return (drawn.repeat(4) * 40).to(torch.int8)
    return (drawn * 8).long() * 2 + 2**53 + 1


class Rare(nn.Module):
    """Its constants are of dtypes that few have: all show, and bit for bit.

    `forward` takes float32[rows, 4].
    """

    turns: torch.Tensor
    exact: torch.Tensor
    codes: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(FEW, FEW)
        self.register_buffer("turns", rare("turns"), persistent=False)
        self.register_buffer("exact", rare("exact"))
        self.register_buffer("codes", rare("codes"))
        self.counts = rare("counts")

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y: torch.Tensor = self.proj(x)
        turned = torch.view_as_real(self.turns)
        y = y * turned[:, 1] + turned[:, 0]
        return y, self.exact / 3, self.codes + 1, self.counts + 1
