"""Literals of a graph as texts: what torch's archives keep beside a graph."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from aoti_ref._weights import Constant

_WIDEST = 1 << 16  # how much memory a literal may span, in numbers of its elements


def dump(tensor: torch.Tensor) -> str:
    """Write a tensor's bytes as base64."""
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return base64.b64encode(bytes(raw.tolist())).decode()


def read(text: bytes, constant: Constant) -> torch.Tensor:
    """Read what `dump` wrote of a constant.

    Raises:
        ValueError: It is no base64, or not of as many bytes as the constant has; or
            the constant spans much more memory than it has bytes.
    """
    dtype: torch.dtype = getattr(torch, constant.dtype)
    data = bytearray(base64.b64decode(text))
    steps = zip(constant.shape, constant.stride, strict=True)
    extent = 1 + sum((size - 1) * step for size, step in steps)
    count = math.prod(constant.shape)
    if count * dtype.itemsize != len(data) or (count and extent > _WIDEST * count):
        message = f"{constant.spell()} of {len(data)} bytes"
        raise ValueError(message)
    made = torch.empty_strided(constant.shape, constant.stride, dtype=dtype)
    if data:
        made.copy_(torch.frombuffer(data, dtype=dtype).reshape(constant.shape))
    return made
