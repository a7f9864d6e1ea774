"""LoRA by hand: what peft does to the layers of a denoiser, fused or as layers.

Drawn large enough that whoever passes it over gives another answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from conformance.models.blocks import normal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RANK = 2
SCALE = 0.2
TARGETS = ("to_q", "to_k", "to_v")


class LoraLinear(nn.Module):
    """A Linear with a low-rank adapter beside it, under peft's names.

    Args:
        base: The Linear, which it keeps.
        seed: Of the adapter.
    """

    def __init__(self, base: nn.Linear, seed: int) -> None:
        super().__init__()
        device, dtype = base.weight.device, base.weight.dtype
        make: Callable[..., nn.Linear] = nn.Linear
        self.base_layer = base
        self.lora_A = make(base.in_features, RANK, bias=False)
        self.lora_B = make(RANK, base.out_features, bias=False)
        self.to(device, dtype).requires_grad_(requires_grad=False).eval()
        down, up = drawn(base, seed)
        self.lora_A.weight.copy_(down)
        self.lora_B.weight.copy_(up)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.base_layer(x) + SCALE * self.lora_B(self.lora_A(x))
        return result


def drawn(layer: nn.Linear, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the two small matrices of an adapter for a layer."""
    down = normal(RANK, layer.in_features, seed=seed)
    up = normal(layer.out_features, RANK, seed=seed + 1)
    return down.to(layer.weight.dtype), up.to(layer.weight.dtype)


def attentions(module: nn.Module) -> Iterator[tuple[str, nn.Linear, int]]:
    """Give the layers that a LoRA adapts, by name, and a seed for each."""
    found = [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and name.rpartition(".")[2] in TARGETS
    ]
    for index, (name, layer) in enumerate(found):
        yield name, layer, 10 + 2 * index


def hang(module: nn.Module) -> None:
    """Put adapters in the place of the layers, as `load_lora_weights` does."""
    for name, layer, seed in list(attentions(module)):
        owner, _, key = name.rpartition(".")
        setattr(module.get_submodule(owner), key, LoraLinear(layer, seed))


def in_place(module: nn.Module, sign: int) -> None:
    """Add a LoRA to the weights, or take it out, as peft does."""
    for _, layer, seed in attentions(module):
        layer.weight.data += sign * _delta(layer, seed)


def through_data(module: nn.Module, sign: int) -> None:
    """The same on copies that are put in their place, as peft's `safe_merge` does."""
    for _, layer, seed in attentions(module):
        layer.weight.data = layer.weight.data + sign * _delta(layer, seed)


def loaded(module: nn.Module, sign: int) -> None:
    """The same by way of a state dict."""
    state = {
        f"{name}.weight": layer.weight + sign * _delta(layer, seed)
        for name, layer, seed in attentions(module)
    }
    module.load_state_dict(state, strict=False)


WAYS = (in_place, through_data, loaded)


def _delta(layer: nn.Linear, seed: int) -> torch.Tensor:
    down, up = drawn(layer, seed)
    return SCALE * (up @ down)
