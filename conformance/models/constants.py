"""A module with constants of every kind, and the ways to change each of them."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from conformance import device
from conformance.adapter import Call
from conformance.models.blocks import normal, seeded

if TYPE_CHECKING:
    from collections.abc import Mapping

FEW = 4  # Inductor writes tensors of up to 8 elements into its code


class Inner(nn.Module):
    """A child with a plain tensor and a number of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(FEW, FEW, bias=False)
        self.plain = normal(FEW, seed=21)
        self.times = 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.proj(x) + self.plain) * self.times  # type: ignore[no-any-return]


class Constants(nn.Module):
    """Constants of every floating kind; all but `spare` show in the answer.

    `forward` takes float32[rows, 4] and returns the same.
    """

    hidden: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEW, FEW)
        self.tied = nn.Linear(FEW, FEW, bias=False)
        self.tied.weight = self.linear.weight
        self.inner = Inner()
        self.zeros = nn.Parameter(torch.zeros(FEW))
        self.ones = nn.Parameter(torch.ones(FEW))
        self.factor = nn.Parameter(torch.ones(()))
        self.turned = nn.Parameter(torch.ones(FEW, FEW).t())
        self.empty = nn.Parameter(torch.ones(0, FEW))
        self.narrow = nn.Parameter(torch.ones(FEW, dtype=torch.bfloat16))
        self.spare = nn.Parameter(torch.ones(5))
        self.register_buffer("hidden", torch.ones(FEW), persistent=False)
        self.plain = normal(FEW, seed=22)
        self.scale = 0.5
        self.gains: dict[str, Any] = {"adapter": 1.5}
        self.shifts = (0.25, 2)
        self.negative = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(self.tied(torch.relu(self.linear(x))))
        y = y @ self.turned * self.ones + self.zeros
        y = y * self.factor * self.scale * self.gains["adapter"] + sum(self.shifts)
        y = y + self.hidden + self.plain + self.narrow
        y = torch.cat([y, self.empty])
        return -y if self.negative else y


class Indexed(Constants):
    """A Constants with an integer and a boolean buffer.

    It is apart because a layer that cannot hold these would fail every clause.
    """

    index: torch.Tensor
    mask: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor([2, 0, 3, 1]))
        self.register_buffer("mask", torch.tensor([True, False, True, True]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return torch.where(self.mask, y[:, self.index], -y)


def constants(seed: int = 0, name: str = "") -> nn.Module:
    """Make a module with the constant `name` in eval mode, as it is before training.

    `zeros` is 0 and `ones` is 1 throughout; everything else is drawn.
    """
    module = seeded(Indexed if name in INTEGERS else Constants, seed)
    module.get_parameter("zeros").data.zero_()
    module.get_parameter("ones").data.fill_(1)
    return module


def call(seed: int = 0) -> Call:
    """Draw a call of a module of this file."""
    return Call((normal(2, FEW, seed=seed),), {})


# Constants by name: those of which the graph knows one name only, and all.
TIED = ("linear.weight", "tied.weight")
INTEGERS = ("index", "mask")
BUFFERS = ("hidden", *INTEGERS)
NAMED = (
    *("inner.proj.weight", "linear.bias", "zeros", "ones", "factor", "turned"),
    *("empty", "narrow", *BUFFERS, "plain", "inner.plain"),
)
VALUED = tuple(name for name in (*TIED, *NAMED) if name != "empty")
FLOATING = tuple(name for name in VALUED if name not in INTEGERS)


def get(module: nn.Module, name: str) -> torch.Tensor:
    """Give the constant `name` of a module."""
    found: torch.Tensor = attrgetter(name)(module)
    return found


def owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Give the child that a constant hangs on, and its name there."""
    path, _, key = name.rpartition(".")
    return module.get_submodule(path), key


def put(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Hang `value` where the constant `name` is, as what that is; ties stay tied."""
    kind = type(get(module, name))
    made = value
    if issubclass(kind, nn.Parameter):
        made = nn.Parameter(value, requires_grad=False)
    for each in TIED if name in TIED else (name,):
        child, key = owner(module, each)
        setattr(child, key, made)


def drop(module: nn.Module, name: str) -> None:
    """Take the constant `name` away."""
    child, key = owner(module, name)
    delattr(child, key)


def others(name: str, seed: int = 0) -> torch.Tensor:
    """Draw other values for the constant `name`, in its dtype, shape and strides."""
    like = get(constants(name=name), name)
    if name == "index":
        return torch.tensor([3, 3, 1, 0]).roll(seed).to(like.device)
    if name == "mask":
        return torch.tensor([False, False, True, False]).roll(seed).to(like.device)
    drawn = normal(*like.shape, seed=seed + 31) * 0.4
    return torch.empty_like(like).copy_(drawn)


def renew(module: nn.Module, name: str, seed: int = 0) -> None:
    """Change the constant `name` in place."""
    get(module, name).data.copy_(others(name, seed))


def exchange(module: nn.Module, name: str, seed: int = 0) -> None:
    """Put another tensor in the place of `name`, and spoil the old one."""
    old = get(module, name)
    put(module, name, others(name, seed))
    old.data.fill_(1e30 if old.is_floating_point() else 0)


_RECAST = {
    torch.float32: torch.float64,
    torch.bfloat16: torch.float16,
    torch.int64: torch.int32,
    torch.bool: torch.uint8,
}


def recast(module: nn.Module, name: str) -> None:
    """Give the constant `name` another dtype."""
    old = get(module, name)
    put(module, name, old.data.to(_RECAST[old.dtype]))


def enlarge(module: nn.Module, name: str) -> None:
    """Give the constant `name` one row more, or a first dimension of size 2."""
    old = get(module, name).data
    put(module, name, torch.cat([old, old[:1]]) if len(old) else _rows(old))


def _rows(old: torch.Tensor) -> torch.Tensor:
    return torch.zeros(1, *old.shape[1:], dtype=old.dtype, device=old.device)


def shrink(module: nn.Module, name: str) -> None:
    """Take the first dimension of the constant `name` away."""
    old = get(module, name).data
    put(module, name, old.new_zeros(old.shape[1:]))


def unfold(module: nn.Module, name: str) -> None:
    """Give the constant `name` one dimension more, of size 1."""
    put(module, name, get(module, name).data[None])


def move_away(module: nn.Module, name: str) -> None:
    """Take the constant `name` to the meta device."""
    put(module, name, get(module, name).data.to("meta"))


def flatten(module: nn.Module) -> torch.Tensor:
    """Move the float32 parameters into one tensor, with NaN before and between them.

    Returns:
        The tensor: float32[elements].
    """
    taken = {n: p for n, p in module.named_parameters() if p.dtype == torch.float32}
    room = sum(parameter.numel() + 3 for parameter in taken.values())
    flat = torch.full((room,), float("nan"), device=device.chosen())
    start = 3
    for parameter in taken.values():
        view = flat.as_strided(parameter.shape, parameter.stride(), start)
        view.copy_(parameter)
        parameter.data = view
        start += parameter.numel() + 3
    return flat


# Numbers that hang on the module, and what each of them is changed to.
NUMBERS: Mapping[str, Any] = {
    "scale": 2.0,
    "shifts": (0.25, 3),
    "negative": True,
    "inner.times": 5,
}


def renumber(module: nn.Module, name: str) -> None:
    """Change the number `name`."""
    child, key = owner(module, name)
    setattr(child, key, NUMBERS[name])


def weigh_adapter(module: nn.Module) -> None:
    """Change the strength of an adapter, as adapter libraries keep it: in a dict."""
    module.gains["adapter"] = 0.5  # type: ignore[index, operator]
