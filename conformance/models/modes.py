"""A module that asks itself whether it is being trained, and has nobody to ask."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Thinning(nn.Module):
    """Drops half of its input in training mode, by its own flag: float32[3, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = functional.dropout(self.proj(x), 0.5, self.training)
        return result
