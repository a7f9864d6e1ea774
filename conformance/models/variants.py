"""A module that is called in several forms, and one whose blocks are, for VAR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from conformance.adapter import Call, Range
from conformance.models.blocks import normal
from conformance.models.regions import Cell

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 8
TOKENS = Range("tokens", 4, 24)
RANGES = {"x": {1: TOKENS}}


class Mixed(nn.Module):
    """A layer with a residual, gated by a mask if there is one.

    `x` is float[batch, tokens, 8] of any floating dtype, which the result has too;
    `mask` is float32[batch, tokens, 8], and only with it `gate` is read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.gate = nn.Linear(WIDTH, WIDTH)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, scale: float = 0.5
    ) -> torch.Tensor:
        y = self.proj(x.to(self.proj.weight.dtype))
        if mask is not None:
            y = y * torch.sigmoid(self.gate(mask))
        result: torch.Tensor = x + scale * y
        return result


class Counting(Mixed):
    """A Mixed that counts its calls; CST-16 lets a layer refuse to compile it."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.tensor(0))

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, scale: float = 0.5
    ) -> torch.Tensor:
        self.seen.add_(1)
        return super().forward(x, mask, scale)


class Shifted(Mixed):
    """A Mixed whose answers are one more: they tell which graph has answered."""

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, scale: float = 0.5
    ) -> torch.Tensor:
        return super().forward(x, mask, scale) + 1


class Reused(nn.Module):
    """Runs each of its blocks twice: without a mask, and with one."""

    _repeated_blocks = ("Cell",)

    def __init__(self) -> None:
        super().__init__()
        self.config = {"cells": 2}
        self.cells = nn.ModuleList([Cell(), Cell()])

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        mask = torch.arange(WIDTH, device=hidden_states.device) % 3 > 0
        for cell in self.cells:
            hidden_states = cell(hidden_states)
            hidden_states = cell(hidden_states, mask=mask.to(hidden_states.dtype))
        return hidden_states


def call(tokens: int = 6, seed: int = 0, **others: Any) -> Call:
    """Draw a call of Mixed: float32[2, tokens, 8], and what else is given."""
    return Call((normal(2, tokens, WIDTH, seed=seed + 1),), others)


def masked_call(tokens: int = 6, seed: int = 0, *, width: int = WIDTH) -> Call:
    """Draw a call with a mask, by name."""
    return call(tokens, seed, mask=normal(2, tokens, width, seed=seed + 2))


def double_call(tokens: int = 6, seed: int = 0, **others: Any) -> Call:
    """Draw a call in float64."""
    return Call((call(tokens, seed).args[0].double(),), others)


# How each of the graphs is called.
FORMS = (call, masked_call, double_call)


def each_form(seed: int = 0) -> list[Call]:
    """Draw a call for each graph."""
    return [make(seed=seed) for make in FORMS]


# Calls that are in no domain.
BETWEEN: dict[str, Callable[[], Call]] = {
    "longer": lambda: call(9),
    "shorter": lambda: call(5),
    "another batch": lambda: Call((normal(3, 6, 8),), {}),
    "narrower": lambda: Call((normal(2, 6, 7),), {}),
    "flat": lambda: Call((normal(12, 8),), {}),
    "half": lambda: Call((normal(2, 6, 8).half(),), {}),
    "double, too short": lambda: double_call(3),
    "double, too long": lambda: double_call(25),
    "double with a mask": lambda: double_call(mask=normal(2, 6, 8)),
    "longer with a mask": lambda: masked_call(9),
    "another scale": lambda: call(scale=0.25),
    "a mask of another dtype": lambda: call(mask=normal(2, 6, 8).double()),
}
