"""What jobs take, return and raise: things with a name, so that they pickle."""

from __future__ import annotations

import os
import sys
import types
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from conformance.adapter import Call
from conformance.models.blocks import normal

WIDTH = 1024


class Tied(nn.Module):
    """Two layers with one weight of 4 MiB, which counts once."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(torch.tanh(self.first(x)))
        return result


def tied_call(seed: int = 0) -> Call:
    """Draw a call of Tied."""
    return Call((normal(2, WIDTH, seed=seed),), {})


@dataclass
class Pictures:
    """A result with a class of its own."""

    images: list[torch.Tensor]
    again: torch.Tensor
    facts: dict[str, Any] = field(default_factory=dict)


class OutOfPaint(Exception):
    """An exception with facts, one of which is no argument."""

    def __init__(self, colour: str, litres: float) -> None:
        super().__init__(colour, litres)
        self.colour = colour
        self.hint = ""


class Unpicklable(Exception):
    """An exception that pickles, and cannot be unpickled for want of an argument."""

    def __init__(self, colour: str, litres: float) -> None:
        super().__init__(f"no {colour} left, {litres} litres short")


def runs_out_of_paint() -> None:
    error = OutOfPaint("ochre", 1.5)
    error.hint = "buy more"
    raise error


def runs_out_of_words() -> None:
    raise Unpicklable("ochre", 1.5)


def looks_for_a_key() -> None:
    os.environ.__getitem__("NO_SUCH_VARIABLE")


def looks_for_a_note() -> None:
    """Raise an exception that somebody has added a note to."""
    error: Any = KeyError("ochre")
    error.__notes__ = ["look on the other side"]  # as `add_note` does since 3.11
    raise error


def raises_what_is_made_there() -> None:
    """Raise an exception of a module that is made where this runs."""
    made: Any = types.ModuleType("conformance_made_there")
    sys.modules[made.__name__] = made
    facts = {"__module__": made.__name__}
    made.MadeThere = type("MadeThere", (Exception,), facts)
    raise made.MadeThere("no ochre left there")


class RefusesToPickle:
    """It does not pickle, and says so in an exception of a common kind."""

    def __reduce__(self) -> Any:
        message = "it has a coat of varnish"
        raise ValueError(message)


def _unpickled() -> None:
    message = "it had a coat of varnish"
    raise ValueError(message)


class RefusesToUnpickle:
    """It pickles, and whoever unpickles it gets an exception of a common kind."""

    def __reduce__(self) -> Any:
        return _unpickled, ()
