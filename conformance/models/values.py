"""A module with values beside its tensors, of every kind that a graph bakes in."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from diffusers.configuration_utils import FrozenDict
from torch import nn

from conformance.models.constants import FEW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Way(Enum):
    """One of two ways to go."""

    HERE = 1
    THERE = 2


@dataclass
class Inner:
    """Options within options."""

    factor: float = 1.25


@dataclass
class Options:
    """Options as many a model has them; no number of `name` is in an answer."""

    name: str = "valued"
    gain: float = 2.0
    way: Way = Way.HERE
    skip: frozenset[int] = frozenset({1})
    inner: Inner = field(default_factory=Inner)


class Slotted:
    """A number in a slot."""

    __slots__ = ("gain",)

    def __init__(self) -> None:
        self.gain = 2.0


class Valued(nn.Module):
    """Each of its values shows in the answer, in its numbers, signs or dtype.

    `forward` takes float32[rows, 4] and returns the same, and int64[2].
    """

    boost = 1.5

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(FEW, FEW)
        self.box = SimpleNamespace(gain=2.0)
        self.config: Any = FrozenDict({"gain": 2.0, "shift": 0.5, "path": "here"})
        self.options = Options()
        self.slotted = Slotted()
        self.clamp = partial(torch.clamp, min=-2.0)
        self.sign = 0.0
        self.count: float = 3
        self.mode = "plus"
        self.act = torch.relu
        self.kind = torch.float32

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.act(self.proj(x)) * self.boost * self.box.gain
        y = y * self.config["gain"] + self.config.shift
        y = self.clamp(y) * self.options.gain * self.slotted.gain
        y = y * self.options.inner.factor
        if self.options.way is Way.HERE and 0 not in self.options.skip:
            y = y + 0.5
        y = torch.copysign(y, torch.full_like(y, self.sign)).to(self.kind)
        return y if self.mode == "plus" else y + 1, torch.arange(2) * self.count


def _itself(module: nn.Module) -> Any:
    return module


# Whose attribute is another one then, which, and what it is.
Change = tuple["Callable[[Any], Any]", str, Any]
NUMBERS: Mapping[str, Change] = {
    "a class's attribute": (type, "boost", 3.0),
    "over a class's attribute": (_itself, "boost", 3.0),
    "an object's": (attrgetter("box"), "gain", 3.0),
    "a table's": (_itself, "config", FrozenDict({"gain": 3.0, "shift": 0.5})),
    "a table's attribute": (_itself, "config", FrozenDict({"gain": 2.0, "shift": 1.5})),
    "options'": (attrgetter("options"), "gain", 3.0),
    "other options'": (_itself, "options", Options(gain=3.0)),
    "options' within options": (attrgetter("options.inner"), "factor", 3.0),
    "a slot's": (attrgetter("slotted"), "gain", 3.0),
    "a member of an enum": (attrgetter("options"), "way", Way.THERE),
    "a set's": (attrgetter("options"), "skip", frozenset({0})),
    "a partial function's": (_itself, "clamp", partial(torch.clamp, min=-0.25)),
    "a zero's sign": (_itself, "sign", -0.0),
    "an integer as a float": (_itself, "count", 3.0),
}
MODES: Mapping[str, Change] = {
    "string": (_itself, "mode", "minus"),
    "function": (_itself, "act", torch.sigmoid),
    "dtype": (_itself, "kind", torch.float64),
}
