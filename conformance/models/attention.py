"""Modules that attend, and some that say with which backend themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from conformance.adapter import Call, Range
from conformance.models import blocks

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 32
HEADS = 2
TOKENS = Range("tokens", 2, 40)
# Fused kernels of GPUs take no float32.
DTYPE = torch.bfloat16


class Attending(nn.Module):
    """Attention with its two projections: takes and returns bfloat16[2, tokens, 32]."""

    values = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.qk = nn.Linear(WIDTH, 2 * WIDTH)
        self.v = nn.Linear(WIDTH, self.values)
        self.out = nn.Linear(self.values, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = (self.heads(part) for part in self.qk(x).chunk(2, dim=-1))
        mixed = self.attend(q, k, self.heads(self.v(x)))
        result: torch.Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(q, k, v)


class Selecting(Attending):
    """An Attending whose code selects the backend "math"."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return super().attend(q, k, v)


class Surrounded(Attending):
    """An Attending around whose export somebody selects the backend "math"."""


class Uneven(Attending):
    """An Attending whose values are half as wide as its keys: no case for "flash"."""

    values = WIDTH // 2


class Unattending(nn.Module):
    """Two layers that attend to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Make a module in bfloat16 whose tensors are drawn from `seed`."""
    return blocks.seeded(make, seed).to(DTYPE)


def call(tokens: int = 24, seed: int = 0) -> Call:
    """Draw a call."""
    return Call((blocks.normal(2, tokens, WIDTH, seed=seed + 1).to(DTYPE),))
