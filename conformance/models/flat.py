"""A module that takes tensors in a tuple, and knows it from a list."""

from __future__ import annotations

import torch
from torch import nn

from conformance.adapter import Call
from conformance.models.blocks import normal


class Both(nn.Module):
    """Subtracts one tensor from another, of a tuple; adds them up, of a list.

    All are float32[2, 4].
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(
        self, x: torch.Tensor, both: tuple[torch.Tensor, ...], last: torch.Tensor
    ) -> torch.Tensor:
        y: torch.Tensor = self.proj(x)
        sign = 1 if isinstance(both, list) else -1
        for tensor in both:
            y = sign * y + tensor
        return y - 3 * last


def both_call(seed: int = 0) -> Call:
    """Draw a call of Both, with two tensors in the tuple."""
    x, one, other, last = (normal(2, 4, seed=seed + number) for number in range(4))
    return Call((x,), {"both": (one, other), "last": last})
