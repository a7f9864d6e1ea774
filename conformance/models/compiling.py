"""Modules whose weights tempt a compiler: uniform, tiny, tied, sliced, written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from conformance import device
from conformance.adapter import Call, Range
from conformance.models.blocks import WIDTH, normal, seeded

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW = 4  # Inductor writes tensors of up to 8 elements into its code
STORAGE_ELEMENTS = 4 << 20  # 16 MiB of float32
LESSER = Range("lesser", 2, 16)
GREATER = Range("greater", 2, 16)


class Layer(nn.Module):
    """The least that has weights: a projection and an activation.

    `forward` takes float[rows, 16] and returns the same, as do all others here
    that say nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.gelu(self.projection(x))


class Gated(nn.Module):
    """A norm behind a gate: adaLN-zero starts the gate at 0, and norms start at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.projection = nn.Linear(WIDTH, WIDTH)
        self.gate = nn.Parameter(torch.zeros(1))
        self.gain = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projection(self.gain * x + self.gate * self.norm(x))  # type: ignore[no-any-return]


def uniform() -> nn.Module:
    """Make a Gated as it is before training: parameters all zero, or all one."""
    module = Gated().eval()
    module.load_state_dict(seeded(Layer).state_dict(), strict=False)
    return module.requires_grad_(requires_grad=False)


class Small(nn.Module):
    """Constants of four elements and of none: parameters and both kinds of buffers.

    `forward` takes float32[rows, 16] and returns float32[rows, 4].
    """

    offset: torch.Tensor
    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(WIDTH, FEW)
        self.factor = nn.Parameter(torch.ones(()))
        self.register_buffer("offset", torch.ones(FEW))
        self.register_buffer("shift", torch.ones(FEW), persistent=False)
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.projection(x) * self.factor + self.offset
        return (x + self.shift) * self.scale


class Counter(nn.Module):
    """It counts its calls in a buffer, and adds the count to its argument."""

    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(FEW))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(1.0)
        return x + self.count


class Stamped(nn.Module):
    """A layer with a number of its own, so that nobody has compiled it before."""

    def __init__(self, stamp: int) -> None:
        super().__init__()
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.stamp = 1 + (stamp % 10**9) / 10**9

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x) * self.stamp
        return result


class Writer(nn.Module):
    """It writes into its first argument: `x += 1`, then `x + y`."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x.add_(1.0)
        return x + y


class Slice(nn.Module):
    """A linear layer whose weight and bias are slices of one large tensor."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, flat: torch.Tensor, start: int) -> None:
        super().__init__()
        end = start + WIDTH * WIDTH
        self.register_buffer("weight", flat[start:end].view(WIDTH, WIDTH))
        self.register_buffer("bias", flat[end : end + WIDTH])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight, self.bias)


class Sliced(nn.Module):
    """Two layers on one storage of 16 MiB, of which they use 2 KiB."""

    def __init__(self) -> None:
        super().__init__()
        # There from the start: on its way to a device each slice would be copied.
        flat = torch.zeros(STORAGE_ELEMENTS, device=device.chosen())
        self.first = Slice(flat, 1 << 10)
        self.second = Slice(flat, 1 << 20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(functional.gelu(self.first(x)))  # type: ignore[no-any-return]


class Tied(nn.Module):
    """Two layers with one weight.

    Args:
        backwards: Which of the two had it first.
    """

    def __init__(self, *, backwards: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH, bias=False)
        self.second = nn.Linear(WIDTH, WIDTH, bias=False)
        if backwards:
            self.first.weight = self.second.weight
        else:
            self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(functional.gelu(self.first(x)))  # type: ignore[no-any-return]


def untied(seed: int) -> nn.Module:
    """Make a Tied whose second weight is another one than its first."""
    module = seeded(Tied, seed)
    other = seeded(Tied, seed + 1)
    module.second.weight = other.second.weight  # type: ignore[union-attr]
    return module


class Checked(nn.Module):
    """It wants no more rows in `x` than in `y`, and says so to torch.

    `forward` takes float[lesser, 16] and float[greater, 16]; it returns float[16].
    """

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        torch._check(  # type: ignore[no-untyped-call]
            x.shape[0] <= y.shape[0], lambda: "x has more rows than y"
        )
        return self.projection(x).sum(0) + y.sum(0)  # type: ignore[no-any-return]


class Changing(nn.Module):
    """A module that somebody edits between two compiles.

    Args:
        times: What it multiplies its answer by.
    """

    def __init__(self, times: int) -> None:
        super().__init__()
        self.config = {"times": times}
        self.projection = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projection(x) * self.config["times"]  # type: ignore[no-any-return]


class Memory(bytearray):
    """Memory that a tensor can stand on, and that a weakref can watch."""


def on_memories(module: nn.Module) -> Iterator[Memory]:
    """Move the parameters of `module` to memory of ours, and give each piece.

    The memory lives as long as the storage of the tensor that stands on it.
    """
    for tensor in module.parameters():
        memory = Memory(bytes(tensor.detach().reshape(-1).view(torch.uint8).tolist()))
        tensor.data = torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape)
        yield memory


def rows(count: int = 6, seed: int = 0) -> Call:
    """Draw a call with one float32[count, 16]."""
    return Call((normal(count, WIDTH, seed=seed + 1),))


def whole_numbers(*shape: int) -> torch.Tensor:
    """Give float32[shape] of 0, 1, 2, ...: sums of them have no rounding."""
    return torch.arange(float(torch.Size(shape).numel())).view(shape)
