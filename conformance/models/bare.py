"""Modules whose whole result is one Python value."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from conformance.adapter import Call
from conformance.models.blocks import normal


class Bare(nn.Module):
    """Returns one value, and no container around it. Takes float32[3, 4].

    Args:
        what: `rows`, a size of its argument; else the name of a fixed value.
    """

    FIXED: dict[str, Any] = {"float": 2.5, "flag": True, "text": "done", "none": None}  # noqa: RUF012

    def __init__(self, what: str) -> None:
        super().__init__()
        self.config = {"what": what}
        self.what = what
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.proj(x)
        return 2 * y.shape[0] if self.what == "rows" else self.FIXED[self.what]


def call(seed: int = 0) -> Call:
    """Draw a call of Bare."""
    return Call((normal(3, 4, seed=seed),))
