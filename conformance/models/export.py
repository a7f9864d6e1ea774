"""Modules for the chapter EXP: arguments, results and sizes of every kind."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch import nn

from conformance.adapter import Call, Range
from conformance.models.blocks import normal

ROWS = Range("rows", 2, 12)


class Linear(nn.Module):
    """Something with a child, so that it shows whether compiled code ran."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)


class Rich(Linear):
    """Takes nested tensors, flags and strings; returns nested tensors.

    `x` and `parts[0]` are float32[rows, 4], everything else has fixed sizes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = normal(4, seed=11)  # neither a parameter nor a buffer

    def forward(
        self,
        x: torch.Tensor,
        parts: tuple[torch.Tensor, list[torch.Tensor]],
        extra: dict[str, torch.Tensor],
        flag: bool = True,  # noqa: FBT001, FBT002
        n: int = 2,
        mode: str = "plus",
    ) -> dict[str, Any]:
        y = self.proj(x) * self.table + parts[0] + parts[1][0] * extra["gain"]
        y = y - extra["bias"]
        if flag:
            y = y * n
        if mode == "minus":
            y = -y
        return {"sample": y, "none": None, "pair": (y[0], [y.sum(), None], {})}


def rich_call(rows: int = 5, seed: int = 0, *, more: int = 0, **other: Any) -> Call:
    """Draw a call of Rich; `parts[0]` has `more` rows than `x`."""
    parts = normal(rows + more, 4, seed=seed + 1), [normal(4, seed=seed + 2)]
    extra = {"gain": normal(4, seed=seed + 3), "bias": normal(1, seed=seed + 4)}
    x = normal(rows, 4, seed=seed)
    return Call((x,), {"parts": parts, "extra": extra, **other})


class Numbers(Linear):
    """Returns Python values beside a tensor, most of them computed from its rows."""

    def forward(self, x: torch.Tensor, flag: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002
        rows = x.shape[0]
        return {
            "sample": self.proj(x),
            "rows": rows,
            "twice": 2 * rows + 1,
            "half": rows / 2,
            "many": rows > 4,  # noqa: PLR2004
            "flag": flag,
            "share": 0.5,
            "none": None,
        }


class Named(Linear):
    """Returns a string beside a tensor."""

    def forward(self, x: torch.Tensor, mode: str = "plus") -> tuple[torch.Tensor, str]:
        return self.proj(x), mode


class Joint(Linear):
    """`a` and `b` are float32[rows, 4], and their rows are one number."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(a) + b
        return result


class Square(Linear):
    """`x` is float32[height, width]; the two have nothing to do with each other."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.proj(x.unsqueeze(-1).expand(-1, -1, 4))
        return y.sum(0), y.sum(1)


class Doubled(Linear):
    """`x` is float32[h, 4] and `y` float32[2*h, 4]."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x) + y.view(-1, 2, 4).sum(1)
        return result


class Grouped(Linear):
    """`x` is float32[rows, 4] with rows a multiple of four."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x).view(x.shape[0] // 4, 4, 4).sum(1)
        return result


class AtLeastEight(Linear):
    """`x` is float32[rows, 4] with eight rows or more, as the module itself checks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._check(x.shape[0] >= 8)  # type: ignore[no-untyped-call]  # noqa: PLR2004
        result: torch.Tensor = self.proj(x)
        return result


class NotFive(Linear):
    """`x` is float32[rows, 4]; five rows are treated otherwise than all others."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x)
        return result if x.shape[0] != 5 else -result  # noqa: PLR2004


class Bounded(Linear):
    """`count` is an int64 scalar from 1 to 8, as the module itself checks."""

    def forward(self, x: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        number = count.item()
        torch._check(number >= 1)  # type: ignore[no-untyped-call]
        torch._check(number <= 8)  # type: ignore[no-untyped-call]  # noqa: PLR2004
        numbers = torch.arange(number, device=x.device)
        result: torch.Tensor = self.proj(x) + numbers.sum()
        return result


class Output(Linear):
    """Returns what diffusers' transformers return: a dataclass that is a dict."""

    def forward(self, x: torch.Tensor) -> Transformer2DModelOutput:
        return Transformer2DModelOutput(sample=self.proj(x))


class Largest(Linear):
    """Returns one of torch's own named tuples."""

    def forward(self, x: torch.Tensor) -> Any:
        return torch.max(self.proj(x), 0)


class Listed(Linear):
    """Returns a list, and dicts in it that keep an order of their own."""

    def forward(self, x: torch.Tensor) -> list[Any]:
        y = self.proj(x)
        return [y, OrderedDict(last=y[0], first=y[1]), [y.sum()]]


class Shaped(Linear):
    """Returns a size beside a tensor, which is more than a tuple of integers."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Size]:
        y = self.proj(x)
        return y, y.shape


class Variadic(Linear):
    """Takes what it gets, by position and by name."""

    def forward(self, x: torch.Tensor, *more: torch.Tensor, **named: Any) -> Any:
        y = self.proj(x)
        for other in more:
            y = y + other
        return y * named["scale"] - named["shift"]


@functools.lru_cache(maxsize=1)
def angles(rows: int) -> torch.Tensor:
    """Compute float32[rows, 4] once for a number of rows, as rotary helpers do."""
    return torch.arange(4.0 * rows).view(rows, 4).cos()


class Cached(Linear):
    """Uses a helper that remembers its tensors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x) + angles(x.shape[0]).to(x.device)
        return result


class Memoir(Linear):
    """Remembers its tensors itself, in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.shape[0]
        if rows not in self.seen:
            self.seen[rows] = torch.arange(4.0 * rows, device=x.device).view(rows, 4)
        result: torch.Tensor = self.proj(x) + self.seen[rows].cos()
        return result


class Undecided(Linear):
    """Branches on a value, which no exported graph can."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.proj(x) + angles(x.shape[0]).to(x.device)
        return result if bool(result.sum() > 0) else -result


@torch.library.custom_op("aoti_conformance::bare", mutates_args=())
def bare(x: torch.Tensor) -> torch.Tensor:
    """Twist float32[...]; it has no fake kernel."""
    return x.sin()


@torch.library.custom_op("aoti_conformance::liar", mutates_args=())
def liar(x: torch.Tensor) -> torch.Tensor:
    """Return float64[...], where the fake kernel promises float32."""
    return x.to(torch.float64, copy=True)


@liar.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Bare(Linear):
    """Uses the operator without a fake kernel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = bare(self.proj(x))
        return result


class Lied(Linear):
    """Returns what the lying operator returns."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = liar(self.proj(x))
        return result


class LiedWithin(Linear):
    """Uses what the lying operator returns, and returns something else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = (liar(self.proj(x)) + 1).sum(0).float()
        return result


def rows_call(rows: int = 5, seed: int = 0) -> Call:
    """Draw a call with one float32[rows, 4]."""
    return Call((normal(rows, 4, seed=seed),), {})
