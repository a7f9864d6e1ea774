"""A module whose weight is a buffer, for those that keep buffers apart."""

from __future__ import annotations

import torch
from torch import nn

from conformance.adapter import Call
from conformance.models.blocks import normal

SIDE = 2048


class Table(nn.Module):
    """Multiplies by a buffer of 16 MiB. Takes float32[rows, 2048]."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.full((SIDE, SIDE), 1 / SIDE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.table


def call() -> Call:
    """Draw a call of Table."""
    return Call((normal(2, SIDE),))
