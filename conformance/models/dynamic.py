"""Modules for the chapter DYN: videos, masks, and arithmetic on sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from conformance import device
from conformance.adapter import Call, Range
from conformance.models.blocks import WIDTH, Block, normal

CHANNELS = 4
VIDEO = {
    "batch": Range("batch", 1, 4),
    "frames": Range("frames", 2, 5),
    "height": Range("height", 2, 6, times=2),
    "width": Range("width", 2, 6, times=2),
}
TOKENS = Range("tokens", 3, 65)
WORDS = Range("words", 2, 19)
# From five, of which a third are two: torch.export takes every one for a constant.
ROWS = Range("rows", 5, 1 << 17)
VAST = Range("rows", 2, (1 << 25) + 8)
SIDES = {"height": Range("height", 2, 9), "width": Range("width", 2, 9)}

_BATCH, _FRAMES, _HEIGHT, _WIDTH = VIDEO.values()
VIDEO_RANGES = {
    "latents": {0: _BATCH, 2: _FRAMES, 3: _HEIGHT, 4: _WIDTH},
    "timestep": {0: _BATCH},
}
MASKED_RANGES = {
    "hidden_states": {1: TOKENS},
    "conditioning": {"text": {1: WORDS}, "mask": {1: WORDS}},
    "bias": {0: TOKENS, 1: TOKENS},
}
ROWS_RANGES = {"x": {0: ROWS}}


class Video(nn.Module):
    """Cuts latents into patches, lets all of them attend, and puts them together.

    `latents` is float32[batch, 4, frames, 2*h, 2*w] and `timestep` float32[batch]; the
    result has the sizes of `latents`, and a mean of every frame, transposed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Linear(1, WIDTH)
        self.block = Block()

    def forward(
        self, latents: torch.Tensor, timestep: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        batch, channels, frames, height, width = latents.shape
        h, w = height // 2, width // 2
        x = latents.reshape(batch, channels, frames, h, 2, w, 2)
        x = x.permute(0, 2, 3, 5, 1, 4, 6)
        x = x.reshape(batch, frames, h, w, 4 * channels)
        x = x + _waves(frames, 0.7, x)[:, None, None]
        x = x + _waves(h, 0.5, x)[:, None] + _waves(w, 0.3, x)
        x = x + self.time(timestep[:, None])[:, None, None, None]
        x = self.block(x.reshape(batch, frames * h * w, 4 * channels))
        means = x.view(batch, frames, h * w, 4 * channels).mean((2, 3))
        x = x.view(batch, frames, h, w, channels, 2, 2).permute(0, 4, 1, 2, 5, 3, 6)
        sample = x.reshape(batch, channels, frames, height, width)
        return {"sample": sample, "means": means.t()}


def _waves(size: int, step: float, like: torch.Tensor) -> torch.Tensor:
    """Compute float32[size, 1], which tells every position from its neighbours."""
    positions = torch.arange(size, device=like.device, dtype=like.dtype)
    return (positions * step).sin()[:, None]


class Masked(nn.Module):
    """Attends to itself under a bias, and to a text under a mask.

    `hidden_states` is float32[2, tokens, 16], `bias` float32[tokens, tokens] and
    `conditioning` {"text": float32[2, words, 16], "mask": bool[2, words]}.
    """

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Linear(WIDTH, WIDTH)
        self.other = nn.Linear(WIDTH, WIDTH)

    def forward(
        self,
        hidden_states: torch.Tensor,
        conditioning: dict[str, torch.Tensor],
        bias: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        text, mask = conditioning["text"], conditioning["mask"]
        x = self.own(hidden_states)
        scores = x @ hidden_states.transpose(1, 2) / 4 + bias
        x = x + scores.softmax(-1) @ hidden_states
        scores = self.other(x) @ text.transpose(1, 2) / 4
        scores = scores.masked_fill(~mask[:, None], float("-inf"))
        return x + scores.softmax(-1) @ text, scores.softmax(-1).sum(1)


class Attended(nn.Module):
    """Attends under a mask in torch's own operator, which is picky about sizes.

    `x` is float32[2, tokens, 16] and `mask` bool[2, tokens].
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q = self.proj(x).view(2, -1, 2, 8).transpose(1, 2)
        k = x.view(2, -1, 2, 8).transpose(1, 2)
        y = functional.scaled_dot_product_attention(q, k, k, mask[:, None, None])
        return y.transpose(1, 2).reshape(x.shape)


class Aligned(Attended):
    """Attends with a kernel that wants a multiple of eight tokens, and says so."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        torch._check(mask.shape[1] % 8 == 0)  # type: ignore[no-untyped-call]
        return super().forward(x, mask)


class Rows(nn.Module):
    """Something with a child for float32[rows, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)


class Sizes(Rows):
    """Computes with its number of rows. `x` is float32[rows, 4]."""

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        rows = x.shape[0]
        y = self.proj(x)
        fours = (rows + 3) // 4
        filled = functional.pad(y, (0, 0, 0, 4 * fours - rows))
        return {
            "first half": y[_first(rows // 2, x)] * 2,
            "second half": y[_first((rows + 1) // 2, x) + rows // 2] + 1,
            "every third": y[::3] * 3,
            "by fours": filled.view(fours, 4, 4).sum(1),
            "scaled": y / rows**0.5,
            "positions": torch.arange(rows, device=x.device) * 2 + rows,
            "turned": (y + 1).t(),
            "ends": torch.cat([y[-1:], y, y[:1]]),
        }


class Reduced(Rows):
    """Reduces over its rows. `x` is float32[rows, 4]."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.proj(x)
        return {
            "shares": y.softmax(0),
            "across": (y.t() * 2).softmax(1),
            "sum": y.sum(0),
            "all": y.sum(),
            "largest": y.amax(0),
            "where": y.argmax(0),
            "spread": y.var(0),
            "order": y.sort(0).values,
        }


def _first(rows: int, like: torch.Tensor) -> torch.Tensor:
    """Number so many rows; torch.export takes no slice whose end it cannot compare."""
    return torch.arange(rows, device=like.device)


class Landscape(Rows):
    """Lays portraits on their side. `x` is float32[height, width, 4]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] > x.shape[1]:
            x = -x.transpose(0, 1)
        result: torch.Tensor = self.proj(x).sum(0)
        return result


class Joined(Rows):
    """Text and image in a row: `ids` has as many rows as both of them."""

    def forward(
        self, text: torch.Tensor, image: torch.Tensor, ids: torch.Tensor
    ) -> torch.Tensor:
        result: torch.Tensor = self.proj(torch.cat([text, image])) + ids
        return result


class Framed(Rows):
    """Parts its tokens into so many frames. `x` is float32[frames * n, 4]."""

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        result: torch.Tensor = self.proj(x).view(frames, -1, 4).sum(1)
        return result


class Kept(Rows):
    """Goes on with the rows that a mask keeps. `keep` is bool[rows]."""

    def forward(
        self, x: torch.Tensor, keep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kept = self.proj(x[keep])
        return kept, kept.sum(0)


class Shift(nn.Module):
    """Adds uint8[64]."""

    by: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("by", torch.arange(1, 65, dtype=torch.uint8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.by


class Vast(nn.Module):
    """Reads the two ends of uint8[rows, 64], so that the rest need not exist."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = Shift()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.shift(x[-1:]), self.shift(x[:2]).flip(1)


def video_call(
    batch: int = 2,
    frames: int = 2,
    height: int = 6,
    width: int = 6,
    seed: int = 0,
    *,
    channels: int = CHANNELS,
    times: int | None = None,
) -> Call:
    """Draw a call of Video. In the example, batch is frames and height is width.

    `timestep` has `times` elements, `batch` by default.
    """
    latents = normal(batch, channels, frames, height, width, seed=seed)
    timestep = normal(batch if times is None else times, seed=seed + 1)
    return Call((latents,), {"timestep": timestep})


def masked_call(
    tokens: int = WIDTH,
    words: int = WORDS.max,
    seed: int = 0,
    *,
    bias: tuple[int, int] | None = None,
    mask: int | None = None,
) -> Call:
    """Draw a call of Masked, with sizes of `bias` and `mask` that may not fit."""
    sides = (tokens, tokens) if bias is None else bias
    kept = normal(2, words if mask is None else mask, seed=seed + 2) > -1
    kept[:, :1] = True  # attending to nothing is NaN
    conditioning = {"text": normal(2, words, WIDTH, seed=seed + 1), "mask": kept}
    kwargs = {"conditioning": conditioning, "bias": normal(*sides, seed=seed + 3)}
    return Call((normal(2, tokens, WIDTH, seed=seed),), kwargs)


def attended_call(tokens: int = 16, seed: int = 0) -> Call:
    """Draw a call of Attended or Aligned."""
    mask = normal(2, tokens, seed=seed + 1) > -1
    mask[:, :1] = True
    return Call((normal(2, tokens, WIDTH, seed=seed), mask), {})


def rows_call(rows: int = 6, seed: int = 0) -> Call:
    """Draw a call of Sizes or Reduced."""
    return Call((normal(rows, 4, seed=seed),), {})


def vast(rows: int = 4) -> torch.Tensor:
    """Make uint8[rows, 64] with something at its ends; its zeros cost no memory."""
    x = torch.zeros(rows, 64, dtype=torch.uint8, device=device.chosen())
    x[0], x[-2], x[-1] = 3, 5, 7
    return x
