"""Modules for the chapter APP: every kind of tensor, and weights that count."""

from __future__ import annotations

import torch
from torch import nn

from conformance.adapter import Call
from conformance.models.blocks import normal


class Kinds(nn.Module):
    """Holds every kind of tensor; each of them shows in the answer.

    `forward` takes float32[3, 4] and returns the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
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


def kinds_call(seed: int = 0) -> Call:
    """Draw a call of Kinds or Noisy."""
    return Call((normal(3, 4, seed=seed),), {})


def wide_call() -> Call:
    """Draw a call of Wide."""
    return Call((normal(2, 4096),), {})
