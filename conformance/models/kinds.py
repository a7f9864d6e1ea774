"""Modules whose constants are large, and whose tensors and numbers few look for."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from conformance.models.blocks import normal
from conformance.models.constants import FEW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MANY = 4096


class Wide(nn.Module):
    """Every element of its constants shows: float32[rows, 4] to [rows, 4096]."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(FEW, MANY)
        self.gain = nn.Parameter(torch.ones(MANY))
        self.register_buffer("table", torch.ones(MANY))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x) * self.gain + self.table  # type: ignore[no-any-return]


class Scaled(nn.Module):
    """Numbers that are none of Python's own, or in company: each shows.

    `forward` takes float32[rows, 4] and returns the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(FEW, FEW)
        self.root = np.sqrt(4.0)  # as code that was written for NumPy has it
        self.count = np.int64(3)
        self.share = Fraction(1, 2)
        self.layers = {0: 1.5, 1: 0.5}
        self.beside: dict[str, Any] = {"gain": 2.0, "table": normal(FEW, seed=25)}
        self.pair: list[Any] = [normal(FEW, seed=26), 2.0]
        self.recent = deque([1.5, 2.0])
        self.weights = {"first": 0.5, "second": 0.25}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.proj(x) * float(self.root) + int(self.count)
        y = y * float(self.share) * self.layers[0]
        y = y * self.beside["gain"] + self.beside["table"]
        y = y + self.pair[0] * self.pair[1] + sum(self.recent)
        for weight in self.weights.values():
            y = y + weight
        return y  # type: ignore[no-any-return]


def _put(key: str, value: object) -> Callable[[Any], None]:
    return lambda module: setattr(module, key, value)


def _enter(key: str, place: Any, value: object) -> Callable[[Any], None]:
    return lambda module: getattr(module, key).__setitem__(place, value)


NUMBERS: Mapping[str, Callable[[Any], None]] = {
    "a NumPy number": _put("root", np.sqrt(9.0)),
    "a NumPy integer": _put("count", np.int64(5)),
    "a fraction": _put("share", Fraction(2, 3)),
    "a number by a number": _enter("layers", 0, 2.5),
    "a number beside a tensor": _enter("beside", "gain", 3.0),
    "a number after a tensor": _enter("pair", 1, 3.0),
    "a number in a queue": _enter("recent", 0, 3.0),
    "a number more": _enter("weights", "third", 2.0),
}


class Counted(nn.Module):
    """It counts its calls by a number, and the number shows.

    `forward` takes float32[rows, 4] and returns the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(FEW, FEW)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.proj(x) * self.calls  # type: ignore[no-any-return]


class Slotted:
    """An object that is no module, and has a tensor in a slot."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


class Hidden(nn.Module):
    """It holds a tensor where few look.

    Args:
        kind: `pair` or `dtype`, for the key of a dict; or `slot`.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.config = {"kind": kind}
        self.proj = nn.Linear(FEW, FEW)
        tensor = normal(FEW, seed=24)
        keys: dict[str, Any] = {"pair": (1, 2), "dtype": torch.float32}
        self.key = keys.get(kind)
        self.box: Any = Slotted(tensor) if kind == "slot" else {self.key: tensor}

    def held(self) -> torch.Tensor:
        """Give the tensor."""
        box = self.box
        found: torch.Tensor = box.tensor if type(box) is Slotted else box[self.key]
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x) + self.held()  # type: ignore[no-any-return]
