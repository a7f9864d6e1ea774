"""Modules for the chapter MEM, with weights large enough to be seen from outside."""

from __future__ import annotations

import torch
from torch import nn

from conformance import device
from conformance.adapter import Call
from conformance.models.blocks import normal
from conformance.models.regions import Cell, Row

SIDE = 2048
TIED_BYTES = 4 * SIDE * SIDE
HEAVY_WIDTH = 4096
HEAVY_BYTES = 4 * HEAVY_WIDTH * HEAVY_WIDTH


class Tied(nn.Module):
    """Two layers on one weight of 16 MiB. Takes float32[rows, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(SIDE, SIDE, bias=False)
        self.decode = nn.Linear(SIDE, SIDE, bias=False)
        self.decode.weight = self.encode.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.decode(torch.tanh(self.encode(x) / SIDE))
        return result


class Foldable(nn.Module):
    """Computes with its weight before it looks at its argument: float32[2, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(SIDE, SIDE, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.proj.weight * 2 + 1)


class Bare(nn.Module):
    """The least that has weights of 1 MiB. Takes float32[512, 512]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(512, 512, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x)
        return result


def heavy_row() -> Row:
    """Make a row of twelve blocks of 64 MiB each; to draw them would take seconds."""
    with torch.device("meta"):
        row = Row(*(Cell(HEAVY_WIDTH) for _ in range(12)), called=12)
    row.to_empty(device=device.chosen()).eval().requires_grad_(requires_grad=False)
    for parameter in row.parameters():
        parameter.fill_(1e-3)
    return row


def tied_call(rows: int = 2, seed: int = 0) -> Call:
    """Draw a call of Tied or Foldable."""
    return Call((normal(rows, SIDE, seed=seed + 1),))


def bare_call() -> Call:
    """Draw a call of Bare."""
    return Call((normal(512, 512),))


def hang_weight(module: nn.Module, weight: torch.Tensor) -> None:
    """Give the layers of a Tied another weight, the same for both."""
    parameter = nn.Parameter(weight, requires_grad=False)
    for name in ("encode", "decode"):
        module.get_submodule(name).weight = parameter
