"""Modules with repeated blocks, for the chapter REG: equal ones, and some that are not.

The blocks are as cheap to compile as blocks can be. What makes two of them differ is
never their class.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from conformance.adapter import Call, Range
from conformance.models.blocks import normal

WIDTH = 8
TOKENS = Range("tokens", 2, 32)
RANGES = {"hidden_states": {1: TOKENS}, "rope": {0: TOKENS}}


class Turned(nn.Module):
    """Turns its input by complex numbers; it is called by position, with a number.

    `forward` takes float[batch, tokens, 8], complex[tokens, 4] and an int.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj: nn.Module = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(
        self, hidden_states: torch.Tensor, rope: torch.Tensor, times: int
    ) -> torch.Tensor:
        pairs = self.proj(hidden_states).unflatten(-1, (WIDTH // 2, 2))
        turned = torch.view_as_real(torch.view_as_complex(pairs) * rope).flatten(-2)
        result: torch.Tensor = hidden_states + times * self.out(torch.relu(turned))
        return result


class Plain(nn.Module):
    """A layer with a residual; it is called by keyword, with a default left out."""

    shift: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.slope = 0.1
        self.proj: nn.Module = nn.Linear(WIDTH, WIDTH)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("shift", torch.ones(WIDTH))

    def forward(self, hidden_states: torch.Tensor, scale: float = 0.5) -> torch.Tensor:
        y = functional.leaky_relu(self.proj(hidden_states) + self.shift, self.slope)
        result: torch.Tensor = hidden_states + scale * self.drop(y)
        return result


class Twofold(nn.Module):
    """Four blocks of one kind and three of another, as FLUX has them."""

    _repeated_blocks = ("Turned", "Plain")

    def __init__(self) -> None:
        super().__init__()
        self.config = {"turned": 4, "plain": 3}
        self.turned = nn.ModuleList(Turned() for _ in range(4))
        self.plain = nn.ModuleList(Plain() for _ in range(3))
        self.head = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden_states: torch.Tensor, times: int = 2) -> torch.Tensor:
        tokens, dtype = hidden_states.shape[1], hidden_states.dtype
        places = torch.arange(tokens, device=hidden_states.device, dtype=dtype)
        angles = places[:, None] / torch.arange(1, 5, device=places.device)
        rope = torch.polar(torch.ones_like(angles), angles)
        for block in self.turned:
            hidden_states = block(hidden_states, rope, times)
        for block in self.plain:
            hidden_states = block(hidden_states=hidden_states)
        result: torch.Tensor = self.head(hidden_states)
        return result


class Cell(nn.Module):
    """A block that may be another one: by a number, by its width, by how it is called.

    Args:
        width: Of its input.
        slope: A number that its code reads.
        asks: Whether it looks at values to decide what to do, which no graph can.
    """

    def __init__(
        self, width: int = WIDTH, *, slope: float = 0.1, asks: bool = False
    ) -> None:
        super().__init__()
        self.slope, self.asks = slope, asks
        self.proj = nn.Linear(width, width)

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        y = functional.leaky_relu(self.proj(hidden_states), self.slope)
        if mask is not None:
            y = y * mask
        if self.asks and bool(y.sum() > 0):
            y = -y
        return hidden_states + y


class Tabled(Cell):
    """A Cell with a table that no state dict holds."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.ones(WIDTH), persistent=False)

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        return super().forward(hidden_states * self.table, mask)


class Uneven(nn.Module):
    """Six blocks of one class that need four graphs, as those of SDXL need two."""

    _repeated_blocks = ("Cell",)

    def __init__(self) -> None:
        super().__init__()
        self.config = {"cells": "two equal, a slope, a mask, two wide"}
        self.even = nn.ModuleList([Cell(), Cell(), Cell(slope=0.9)])
        self.masked = Cell()
        self.wide = nn.ModuleList([Cell(12), Cell(12)])
        self.widen = nn.Linear(WIDTH, 12)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        mask = torch.arange(WIDTH, device=hidden_states.device) % 3 > 0
        for cell in self.even:
            hidden_states = cell(hidden_states)
        hidden_states = self.masked(hidden_states, mask=mask.to(hidden_states.dtype))
        hidden_states = self.widen(hidden_states)
        for cell in self.wide:
            hidden_states = cell(hidden_states)
        return hidden_states


class Row(nn.Module):
    """Blocks in a row; some of them may be passed over.

    Args:
        cells: The blocks.
        called: How many of them `forward` calls.
        repeated: What it says of its own blocks.
    """

    def __init__(
        self, *cells: Cell, called: int = 8, repeated: tuple[str, ...] = ("Cell",)
    ) -> None:
        super().__init__()
        self._repeated_blocks = repeated
        self.called = called
        self.config = {"asks": [cell.asks for cell in cells]}
        self.cells = nn.ModuleList(cells)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for cell in list(self.cells)[: self.called]:
            hidden_states = cell(hidden_states)
        return hidden_states


def asking() -> Row:
    """Make a row of three, the last of which nobody can compile."""
    return Row(Cell(), Cell(), Cell(asks=True))


def tabled() -> Row:
    """Make a row of two, each with a table of its own."""
    return Row(Tabled(), Tabled(), repeated=("Tabled",))


def uphill() -> Row:
    """Make a row of three that need two graphs."""
    return Row(Cell(), Cell(slope=0.9), Cell())


def call(tokens: int = 6, seed: int = 0, **others: Any) -> Call:
    """Draw a call of any of these models."""
    x = normal(2, tokens, WIDTH, seed=seed + 1)
    return Call((), {"hidden_states": x, **others})


# What cannot take a graph of Twofold any more: its last block.


def drops_a_weight(module: Twofold) -> None:
    module.plain[2].get_submodule("proj").bias = None  # type: ignore[assignment]


def reshapes_a_weight(module: Twofold) -> None:
    bias = nn.Parameter(torch.ones(2), requires_grad=False)
    module.plain[2].get_submodule("proj").bias = bias


def widens_a_weight(module: Twofold) -> None:
    bias = nn.Parameter(torch.ones(WIDTH).double(), requires_grad=False)
    module.plain[2].get_submodule("proj").bias = bias


def drops_a_buffer(module: Twofold) -> None:
    del module.plain[2].shift


def adds_a_block(module: Twofold) -> None:
    module.plain.append(Plain().eval())


def drops_a_block(module: Twofold) -> None:
    del module.plain[2]


class Sharper(Plain):
    """A block of another class with the same weights."""

    def forward(self, hidden_states: torch.Tensor, scale: float = 0.5) -> torch.Tensor:
        return super().forward(hidden_states, scale=3 * scale)


def exchanges_a_block(module: Twofold) -> None:
    other = Sharper().eval()
    other.__dict__.update(module.plain[2].__dict__)
    module.plain[2] = other


def steepens_a_block(module: Twofold) -> None:
    module.plain[2].slope = 0.7  # type: ignore[assignment]


# Weights that change in one block after apply, each in its own way.


def scaled(block: nn.Module) -> None:
    block.get_parameter("proj.weight").mul_(2)


def replaced(block: nn.Module) -> None:
    weight = nn.Parameter(normal(WIDTH, WIDTH, seed=5), requires_grad=False)
    block.get_submodule("proj").weight = weight


def exchanged_data(block: nn.Module) -> None:
    block.get_parameter("proj.weight").data = normal(WIDTH, WIDTH, seed=6)


def exchanged_child(block: nn.Module) -> None:
    child = nn.Linear(WIDTH, WIDTH).eval().requires_grad_(requires_grad=False)
    block.proj = child.to(block.get_parameter("proj.weight").device)


class Adapter(nn.Module):
    """A low-rank adapter around a layer, as LoRA libraries hang it there.

    Args:
        base: The layer, which it keeps.
        seed: Of its own weights.
    """

    def __init__(self, base: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(normal(2, WIDTH, seed=seed), requires_grad=False)
        self.up = nn.Parameter(normal(WIDTH, 2, seed=seed + 1), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.base(x) + x @ self.down.T @ self.up.T
        return result

    def delta(self) -> torch.Tensor:
        """Give what fusing adds to the weight of the layer."""
        return self.up @ self.down
