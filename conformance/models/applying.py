"""Modules for the chapter APP, and what users do to them before and after apply."""

from __future__ import annotations

from types import MethodType

import torch
from torch import nn
from torch.nn.utils import parametrize

from conformance.adapter import Call
from conformance.models.blocks import normal


class Kinds(nn.Module):
    """Holds every kind of tensor; each of them shows in the answer.

    `forward` takes float32[3, 4] and returns the same.
    """

    shift: torch.Tensor
    hidden: torch.Tensor
    index: torch.Tensor
    mask: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first: nn.Module = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.ones(4))
        self.register_buffer("hidden", torch.ones(4), persistent=False)
        self.register_buffer("index", torch.tensor([2, 0, 3, 1]))
        self.register_buffer("mask", torch.tensor([True, False, True, True]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(torch.relu(self.first(x)))
        y = y[:, self.index] + self.shift * self.hidden
        return torch.where(self.mask, y, -y)


class Wide(nn.Module):
    """A single large weight, 64 MB, to see it twice if there are two."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4096, 4096, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x)
        return result


class Noisy(nn.Module):
    """Drops half of its input in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.drop(self.proj(x))
        return result


class Deep(nn.Module):
    """Another module in a module: what is done to its children is done deep down.

    Args:
        inner: Kinds or Noisy.
    """

    def __init__(self, inner: type[nn.Module]) -> None:
        super().__init__()
        self.config = {"inner": inner.__name__}
        self.inner = inner()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(x)
        return result


class Doubled(nn.Module):
    """A parametrization: twice the tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class Adapted(nn.Module):
    """An adapter in the place of a Linear, as LoRA libraries put it there."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.up = nn.Parameter(normal(4, 4, seed=3), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.base(x) + x @ self.up
        return result


class Scaled(nn.Linear):
    """A Linear with another forward and the same names of weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


def kinds_call(seed: int = 0) -> Call:
    """Draw a call of Kinds or Noisy."""
    return Call((normal(3, 4, seed=seed),), {})


def wide_call() -> Call:
    """Draw a call of Wide."""
    return Call((normal(2, 4096),), {})


# What cannot be filled from a Kinds any more.


def drops_a_weight(module: Kinds) -> None:
    module.first.weight = None  # type: ignore[assignment]


def reshapes_a_weight(module: Kinds) -> None:
    module.first.bias = nn.Parameter(torch.ones(2), requires_grad=False)


def widens_a_weight(module: Kinds) -> None:
    module.first.bias = nn.Parameter(torch.ones(4).double(), requires_grad=False)


def moves_a_weight(module: Kinds) -> None:
    module.first.bias = nn.Parameter(torch.ones(4, device="meta"), requires_grad=False)


def drops_a_buffer(module: Kinds) -> None:
    del module.hidden


def narrows_a_buffer(module: Kinds) -> None:
    module.shift = torch.ones(4, dtype=torch.bfloat16)


# Weights that are replaced, each in its own way.


def new_parameter(module: Kinds) -> None:
    weight = nn.Parameter(normal(4, 4, seed=5), requires_grad=False)
    module.first.weight = module.second.weight = weight


def untied_parameter(module: Kinds) -> None:
    module.second.weight = nn.Parameter(normal(4, 4, seed=5), requires_grad=False)


def no_parameter(module: Kinds) -> None:
    module.first.bias = None  # type: ignore[assignment]


def new_data(module: Kinds) -> None:
    module.get_parameter("first.bias").data = normal(4, seed=6)


def new_buffer(module: Kinds) -> None:
    module.hidden = normal(4, seed=7)


def viewed_buffer(module: Kinds) -> None:
    module.shift = module.shift.view(torch.int32)


def buffer_made_parameter(module: Kinds) -> None:
    del module.shift
    module.shift = nn.Parameter(normal(4, seed=8), requires_grad=False)


def other_dtype(module: Kinds) -> None:
    module.to(torch.float64)


# Children that are exchanged, wrapped or patched.


def new_child(module: Kinds) -> None:
    child = nn.Linear(4, 4).eval().requires_grad_(requires_grad=False)
    child.weight = module.second.weight
    child.bias.data = normal(4, seed=9)
    module.first = child


def adapted_child(module: Kinds) -> None:
    module.first = Adapted(module.first).eval()  # type: ignore[arg-type]


def child_of_a_subclass(module: Kinds) -> None:
    child = Scaled(4, 4).eval()
    child.weight, child.bias = module.first.weight, module.first.bias  # type: ignore[assignment]
    module.first = child


def parametrized_child(module: Kinds) -> None:
    parametrize.register_parametrization(module.first, "bias", Doubled()).eval()


def patched_child(module: Kinds) -> None:
    module.first.forward = MethodType(twice, module.first)


def twice(linear: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return 2 * nn.functional.linear(x, linear.weight, linear.bias)


# Hooks on a child, each of which changes the answer.


def hook_after_a_child(module: Kinds) -> None:
    module.first.register_forward_hook(lambda _child, _args, result: result * 2)


def hook_before_a_child(module: Kinds) -> None:
    module.first.register_forward_pre_hook(lambda _child, args: (args[0] * 2,))
