"""A transformer in small: a block with attention, and a stack of three of them.

Weights and inputs come from seeds. Every block has its own weights, and none of
them is zero or one throughout: what a layer mixes up shows in the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from conformance import device
from conformance.adapter import Call, Range

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 16
HEADS = 2
TOKENS = Range("tokens", 2, 24)

# One entry for every time that Python entered Block.forward in this process.
entered: list[str] = []


class Block(nn.Module):
    """Attention and an MLP, each with a residual.

    `forward` takes float[batch, tokens, 16] and returns the same.
    """

    def __init__(self, width: int = WIDTH, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, hidden_states: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        entered.append(type(self).__name__)
        batch, tokens, width = hidden_states.shape
        qkv = self.qkv(self.norm(hidden_states))
        q, k, v = qkv.view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
        hidden_states = hidden_states + scale * self.out(mixed)
        result: torch.Tensor = hidden_states + self.mlp(hidden_states)
        return result


class Stack(nn.Module):
    """Three blocks in a row, as diffusers lays them out.

    It has what a diffusers model has and a pipeline reads: `config`, `dtype`,
    `device`, and a `forward` with names and defaults.
    """

    _repeated_blocks = ("Block",)

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.config = {"depth": depth, "width": WIDTH}
        self.blocks = nn.ModuleList(Block() for _ in range(depth))

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(
        self, hidden_states: torch.Tensor, scale: float = 1.0
    ) -> tuple[torch.Tensor]:
        for block in self.blocks:
            hidden_states = block(hidden_states, scale=scale)
        return (hidden_states,)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Make a module in eval mode whose floating tensors are drawn from `seed`.

    They are drawn on the CPU and moved to the device under test. Buffers are drawn
    too; integers and booleans keep what `make` gave them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make().eval()
    generator = torch.Generator().manual_seed(seed)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator) * 0.4
            tensor.data.copy_(drawn)
    return module.requires_grad_(requires_grad=False).to(device.chosen())


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw float32[shape] from a standard normal distribution."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(device.chosen())


def hidden_states(tokens: int = 8, batch: int = 2, seed: int = 0) -> torch.Tensor:
    """Draw float32[batch, tokens, 16]."""
    return normal(batch, tokens, WIDTH, seed=seed + 1)


def call(tokens: int = 8, batch: int = 2, seed: int = 0) -> Call:
    """Draw a call of a Block or a Stack, by keyword, as diffusers pipelines call."""
    return Call((), {"hidden_states": hidden_states(tokens, batch, seed)})
