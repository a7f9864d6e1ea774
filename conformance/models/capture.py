"""Modules and pipelines for the chapter CAP; none of them is ever compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable


class Tripwire(nn.Module):
    """Counts how often its code ran, and returns float32[...] twice its argument."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)
        self.ran = 0

    def forward(
        self, x: torch.Tensor, scale: float = 2.0, extra: Any = None
    ) -> torch.Tensor:
        self.ran += 1
        return x * scale if extra is None else x * scale + 0 * x

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        self.ran += 1
        return z + 1


class Scheduler:
    """Steps whose number and state a run resets, as diffusers' schedulers do."""

    def __init__(self) -> None:
        self.done = 0

    def set_steps(self) -> range:
        self.done = 0
        return range(3)

    def step(self, latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        self.done += 1
        return latents - noise / (self.done + 1)


class Pipeline:
    """Three steps that write into their latents in place.

    Args:
        model: What each step calls.
        around: Called with the step's model call; it may swallow or repeat.
    """

    def __init__(
        self,
        model: nn.Module,
        around: Callable[[Callable[[], torch.Tensor]], torch.Tensor] | None = None,
    ) -> None:
        self.model = model
        self.scheduler = Scheduler()
        self.around = around or (lambda call: call())

    def __call__(self, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        latents = torch.randn(2, 4, generator=generator)
        for _step in self.scheduler.set_steps():
            noise = self.around(lambda: self.model(latents, scale=0.5))
            latents.copy_(self.scheduler.step(latents, noise))
        return latents


def swallowing(call: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Go on with zeros where the model call fails, as robust pipelines do."""
    try:
        return call()
    except Exception:  # noqa: BLE001  # the very habit that the clause is about
        return torch.zeros(2, 4)


def retrying(call: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Try three times, then go on with zeros."""
    for _attempt in range(3):
        try:
            return call()
        except Exception:  # noqa: BLE001, S112, PERF203
            continue
    return torch.zeros(2, 4)
