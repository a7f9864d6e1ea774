"""Tensors that are made of others, as quantised weights are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


def made_of_others(tensor: Any) -> bool:
    """Whether a tensor holds others, and says which."""
    return hasattr(tensor, "__tensor_flatten__")


def inside(tensor: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Give the plain tensors within one, by dotted name; itself if it is one."""
    if not made_of_others(tensor):
        yield "", tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        for further, part in inside(getattr(tensor, name)):
            yield f"{name}.{further}".rstrip("."), part
