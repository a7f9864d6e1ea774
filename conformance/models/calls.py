"""Modules for the chapter RUN: many kinds of arguments, and many kinds of results."""

from __future__ import annotations

import enum
from collections import namedtuple
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils import _pytree as pytree

from conformance.adapter import Call, Range
from conformance.models.blocks import normal

WIDTH = 8
ROWS = Range("rows", 2, 12)
DYNAMIC = {"x": {0: ROWS}, "ids": {0: ROWS}, "mask": {0: ROWS}}


class Kind(enum.Enum):
    """What an argument chooses among, as schedulers and guiders do."""

    PLAIN = "plain"
    BENT = "bent"


class Size(NamedTuple):
    """An argument that is a named tuple of tensors."""

    gain: torch.Tensor
    shift: torch.Tensor


pytree._register_namedtuple(  # torch's own way to register one
    Size, serialized_type_name="conformance.calls.Size"
)

Other = namedtuple("Other", ["shift", "gain"])  # noqa: PYI024  # Size's twin, turned round


class Many(nn.Module):
    """Takes eight tensors and four other arguments, each of which shows.

    `x` is float32[rows, 8], `ids` int64[rows], `mask` bool[rows, 8], `size` a 0-d
    float32, `parts` float32[8] and a list of two of them, `extra` a dict of
    float32[8] under `gain` and `bias`. The result is float32[rows, 8].
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(
        self,
        x: torch.Tensor,
        ids: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        size: torch.Tensor,
        parts: tuple[torch.Tensor, list[torch.Tensor]],
        extra: dict[str, torch.Tensor],
        flag: bool = True,
        n: int = 2,
        factor: float = 1.5,
        mode: str = "plus",
    ) -> torch.Tensor:
        y = self.proj(x) + self.table(ids) * size
        if mask is not None:
            y = torch.where(mask, y, -0.5 * y)
        y = y * parts[0] + parts[1][0] - 2 * parts[1][1]
        y = y * extra["gain"] + 3 * extra["bias"]
        y = y * factor if flag else y
        y = y**n if mode == "power" else y * n
        result: torch.Tensor = y if mode != "minus" else -y
        return result


def many_call(rows: int = 5, seed: int = 0, **other: Any) -> Call:
    """Draw a good call of Many, `mask` given by position."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(16, (rows,), generator=generator)
    mask = torch.rand(rows, WIDTH, generator=generator) > 0.5  # noqa: PLR2004
    x = normal(rows, WIDTH, seed=seed)
    given = {
        "size": normal(1, seed=seed + 1)[0],
        "parts": (
            normal(WIDTH, seed=seed + 2),
            [normal(WIDTH, seed=seed + 3), normal(WIDTH, seed=seed + 4)],
        ),
        "extra": {
            "gain": normal(WIDTH, seed=seed + 5),
            "bias": normal(WIDTH, seed=seed + 6),
        },
    }
    return Call((x, ids.to(x.device), mask.to(x.device)), {**given, **other})


class Chosen(nn.Module):
    """Takes what is no tensor: an enum, a dtype, numbers whose very type shows.

    `x` is float32[3, 4], `size` two float32[4].
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(
        self,
        x: torch.Tensor,
        size: Size,
        kind: Kind = Kind.PLAIN,
        dtype: torch.dtype = torch.float32,
        limit: float = float("nan"),
        count: int = 3,
        strict: bool = True,  # noqa: FBT001, FBT002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.proj(x) * size.gain - size.shift
        y = y - 1 if limit != limit else y.clamp(max=limit)  # noqa: PLR0124
        y = -y if kind is Kind.BENT else y
        y = y if strict is True else y + 1
        steps = torch.arange(4, device=x.device) * count
        return y.to(dtype), steps


def numbers_call(seed: int = 0, **other: Any) -> Call:
    """Draw a call of Chosen without enum and dtype, which torch.export refuses."""
    given = {"limit": float("nan"), "count": 3, "strict": True}
    size = normal(4, seed=seed + 1), normal(4, seed=seed + 2)
    return Call((normal(3, 4, seed=seed), Size(*size)), {**given, **other})


def chosen_call(seed: int = 0, **other: Any) -> Call:
    """Draw a call of Chosen, every argument given; `other` takes their places."""
    given = {"kind": Kind.BENT, "dtype": torch.float64}
    return numbers_call(seed, **{**given, **other})


class Returned(nn.Module):
    """Returns one object of its own class, inputs of its own, and views of them.

    Takes float32[rows, 4].
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, flag: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002
        # As diffusers does it: who never runs eager code never imports the class.
        from conformance.models.outputs import Output

        y = self.proj(x)
        return {
            "output": Output(y, x.shape[0]),
            "input": x,
            "view": x[:1],
            "nested": (y.sum(), [y[0], None, flag, "text", 2.5]),
        }


def returned_call(seed: int = 0) -> Call:
    """Draw a call of Returned."""
    return Call((normal(3, 4, seed=seed),))


class Optional(nn.Module):
    """Adds one tensor and subtracts another, if they are there: float32[3, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(
        self,
        x: torch.Tensor,
        minus: torch.Tensor | None = None,
        plus: torch.Tensor | None = None,
    ) -> torch.Tensor:
        y: torch.Tensor = self.proj(x)
        y = y if minus is None else y - minus
        return y if plus is None else y + plus


class Drawing(nn.Module):
    """Adds noise of its own, from two distributions: float32[3, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.proj(x)
        return y + torch.randn_like(y) + torch.rand(4, device=y.device)


class Overlapping(nn.Module):
    """Reads two tensors at every place, and the rows of one in another order.

    Takes float32[6, 8] twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x.flip(0)) + y.cumsum(0)
        return result


class Complexes(nn.Module):
    """Turns pairs of numbers, as rotary embeddings do: complex64[3, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
        turned = torch.view_as_real(torch.view_as_complex(x.view(3, 4, 2)) * turn)
        result: torch.Tensor = self.proj(turned.reshape(3, 8))
        return result


def complex_call(seed: int = 0) -> Call:
    """Draw float32[3, 8] and complex64[3, 4]."""
    turn = torch.view_as_complex(normal(3, 4, 2, seed=seed + 1))
    return Call((normal(3, 8, seed=seed), turn))
