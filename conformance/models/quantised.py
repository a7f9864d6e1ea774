"""Modules whose linear layers torchao stores as FP8, and the truth about them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from conformance.adapter import Call, Range
from conformance.models import blocks
from conformance.spec import blocked
from conformance.tensors import inside

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 64
ROWS = Range("rows", 2, 16)
MANY_ROWS = Range("rows", 1, 512)
DEPTH = 9216
LARGE = 4096  # of a weight that takes 16 MiB as FP8 and 32 as bfloat16

# The layers of Mlp that FP8 products can do, and those whose sizes they cannot.
EVEN, ODD = ("up", "down"), ("narrow", "widen")


class Mlp(nn.Module):
    """Two ways from bfloat16[rows, 64] to the same; one of them is 24 wide.

    The rows of its weights are of many sizes, so that each needs its own scale.
    """

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)
        self.narrow = nn.Linear(WIDTH, 24)
        self.widen = nn.Linear(24, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.down(functional.gelu(self.up(x)))
        result: torch.Tensor = x + wide + self.widen(self.narrow(x))
        return result


class Tower(nn.Module):
    """Three of them, as blocks."""

    _repeated_blocks = ("Mlp",)

    def __init__(self) -> None:
        super().__init__()
        self.config = {"blocks": 3}
        self.blocks = nn.ModuleList(Mlp() for _ in range(3))
        self.head = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        result: torch.Tensor = self.head(x)
        return result


class Single(nn.Module):
    """One large weight. Takes bfloat16[rows, 4096]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(LARGE, LARGE, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x)
        return result


class Deep(nn.Module):
    """A layer of FLUX's sizes. Takes bfloat16[rows, 9216]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(DEPTH, 3072)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x)
        return result


class Twin(nn.Module):
    """Two layers with one weight. Takes bfloat16[rows, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(torch.tanh(self.first(x)))
        return result


def plain(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Make a module in bfloat16, the rows of its weights of many sizes."""
    module = blocks.seeded(make, seed)
    for weight in {p for p in module.parameters() if p.ndim > 1}:
        sizes = 2.0 ** -torch.arange(weight.shape[0], device=weight.device).remainder(6)
        weight.mul_(sizes[:, None] * 4 / weight.shape[1] ** 0.5)
    return module.bfloat16()


def call(rows: int = 4, seed: int = 0, width: int = WIDTH) -> Call:
    """Draw a call with bfloat16[rows, width]."""
    return Call((blocks.normal(rows, width, seed=seed).bfloat16(),), {})


def quantise(
    module: nn.Module, scheme: str = "weight_only", *, only: str = ""
) -> nn.Module:
    """Have torchao quantise the layers that it can, in place.

    Args:
        module: In bfloat16.
        scheme: As `Quantises.quantize` has it, or `weight_only_per_tensor`.
        only: The name of the one layer to quantise.
    """
    api = torchao()

    def can(part: nn.Module, name: str) -> bool:
        return (
            isinstance(part, nn.Linear)
            and all(size % 16 == 0 for size in part.weight.shape)
            and only in ("", name)
        )

    api.quantize_(module, config(scheme), filter_fn=can)
    for part in module.modules():
        vars(part).pop("extra_repr", None)  # torchao's cannot be pickled
    return module


def config(scheme: str) -> Any:
    """Give torchao's configuration for a scheme; it changes nothing of Inductor's."""
    api = torchao()
    dynamic = api.Float8DynamicActivationFloat8WeightConfig
    by = {"granularity": api.PerRow() if "row" in scheme else api.PerTensor()}
    if scheme == "weight_only":
        by = {}
    kind = api.Float8WeightOnlyConfig if scheme.startswith("weight_only") else dynamic
    return kind(**by, set_inductor_config=False)


def quantised(
    make: Callable[[], nn.Module], seed: int = 0, scheme: str = "weight_only"
) -> nn.Module:
    """Make a module in bfloat16, and quantise it."""
    return quantise(plain(make, seed), scheme)


def torchao() -> Any:
    """Import torchao, or say that it is missing."""
    try:
        return importlib.import_module("torchao.quantization")
    except ImportError as error:
        blocked(f"torchao is not installed: {error}")


def stored_bytes(weight: torch.Tensor) -> int:
    """Count the bytes of all that a weight holds."""
    return sum(tensor.nbytes for _, tensor in inside(weight))


def layers(module: nn.Module) -> dict[str, nn.Linear]:
    """Find the linear layers of a module."""
    parts = module.named_modules()
    return {name: part for name, part in parts if isinstance(part, nn.Linear)}
