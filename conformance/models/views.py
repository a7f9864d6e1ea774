"""A module whose results are views of its argument."""

from __future__ import annotations

import torch
from torch import nn

from conformance.adapter import Call
from conformance.models.blocks import normal


class Viewed(nn.Module):
    """Returns views of its argument that look at it in other ways: float32[4, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "answer": self.proj(x),
            "turned": x.t(),
            "column": x[:, 1],
            "corner": x[1:, 2:],
            "diagonal": x.diagonal(),
            "wide": x[None],
            "last": x[3:],
        }


VIEWS = ("turned", "column", "corner", "diagonal", "wide", "last")


def viewed_call(seed: int = 0) -> Call:
    """Draw a call of Viewed."""
    return Call((normal(4, 4, seed=seed),))
