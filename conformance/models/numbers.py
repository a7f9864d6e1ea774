"""Modules for the chapter NUM: many dtypes in one result, or among the arguments."""

from __future__ import annotations

import torch
from torch import nn

from conformance.adapter import Call
from conformance.models.blocks import normal


class Mixed(nn.Module):
    """Returns what float32[3, 4] gives in every kind of dtype and layout."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.proj(x)
        return {
            "double": y.double() * 2,
            "half": y.half() + 1,
            "bfloat16": y.bfloat16() * 3,
            "integers": (y * 100).round().to(torch.int64),
            "positive": y > 0,
            "complex": torch.view_as_complex(y.reshape(3, 2, 2).contiguous()) * 2,
            "turned": (y + 1).t(),
            "scalar": y.sum(),
        }


def mixed_call(seed: int = 0) -> Call:
    """Draw a call of Mixed."""
    return Call((normal(3, 4, seed=seed),), {})


class Exact(nn.Module):
    """Computes in dtypes of which no bit is idle.

    Takes float32[3, 4], float64[4] and int64[4], and shows the wider ones apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(
        self, x: torch.Tensor, wide: torch.Tensor, large: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"sample": self.proj(x), "wide": wide / 3, "large": large + 2}


def exact_call(seed: int = 0) -> Call:
    """Draw a call of Exact: floats that no float32 is, integers that no float64 is."""
    wide = normal(4, seed=seed + 1).double() / 7
    large = (normal(4, seed=seed + 2) * 8).long() * 2 + 2**53 + 1
    return Call((normal(3, 4, seed=seed), wide, large))
