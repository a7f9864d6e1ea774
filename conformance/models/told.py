"""Modules for the chapter RUN: what stands close by an argument, or inside of one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from conformance.adapter import Call
from conformance.models.blocks import normal

TINY = 1e-9
LARGE = 2**53  # the next integer is no float64


class Told(nn.Module):
    """Lets differences show that comparisons like to overlook: float32[2, 4].

    `sizes` is a list of pairs of integers, `extra` a dict that may hold a float32[4]
    under `add`. A difference of TINY in `eps` halves the answer, one in `count` over
    LARGE doubles it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(
        self,
        x: torch.Tensor,
        sizes: list[tuple[int, int]],
        extra: dict[str, torch.Tensor | None],
        eps: float,
        mode: str,
        count: int,
    ) -> torch.Tensor:
        # Not the count itself: torch 2.11 cannot compile so large a one for a GPU.
        y: torch.Tensor = (
            self.proj(x) * sizes[0][1] / (eps / TINY + 1) * (1 + count - LARGE)
        )
        add = extra["add"]
        y = y if add is None else y + add
        return -y if mode == "minus" else y


def told_call(seed: int = 0, **other: Any) -> Call:
    """Draw a call of Told; `other` takes the places of what was exported."""
    given = {
        "sizes": [(1, 2)],
        "extra": {"add": None},
        "eps": 0.0,
        "mode": "minus",
        "count": LARGE,
    }
    return Call((normal(2, 4, seed=seed),), {**given, **other})


class Keyed(nn.Module):
    """Knows the key 1 from the key "1", which JSON does not: float32[2, 4].

    `by` is a dict with one float32[4].
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, by: dict[Any, torch.Tensor]) -> torch.Tensor:
        y: torch.Tensor = self.proj(x)
        return y * by[1] if 1 in by else y - by["1"]


def keyed_call(key: int | str, seed: int = 0) -> Call:
    """Draw a call of Keyed with one entry under `key`."""
    return Call((normal(2, 4, seed=seed),), {"by": {key: normal(4, seed=seed + 1)}})


class Signed(nn.Module):
    """Takes the sign of a number, which zero has too: float32[2, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, by: float) -> torch.Tensor:
        y: torch.Tensor = self.proj(x)
        return y * math.copysign(1.0, by)


def signed_call(seed: int = 0, by: float = 0.0) -> Call:
    """Draw a call of Signed."""
    return Call((normal(2, 4, seed=seed),), {"by": by})


class Copying(nn.Module):
    """Returns copies of its argument and of its answer. Takes float32[3, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.proj(x)
        return {"argument": x.clone(), "answer": y, "again": y.clone()}


def copying_call(seed: int = 0) -> Call:
    """Draw a call of Copying."""
    return Call((normal(3, 4, seed=seed),))
