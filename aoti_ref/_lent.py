"""Results that are an argument, or a view of one: the caller's, and not of a copy.

A graph gives back its inputs. Where the check had to lay one out anew, that is a copy,
and what the caller writes to it would be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


def lends(inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> bool:
    """Whether a graph gives back memory of its inputs, which is so at every call."""
    return any(_shared(x, y) for x in inputs for y in outputs)


def given_back(
    output: torch.Tensor, inputs: Sequence[torch.Tensor], given: Sequence[torch.Tensor]
) -> torch.Tensor | int:
    """Find what `output` is of the caller's tensors.

    Args:
        output: Of the graph.
        inputs: Of the graph.
        given: The caller's, in the same order.

    Returns:
        The tensor; the number of the input, where it is a view that the caller's
        tensor has not.
    """
    for number, (copied, own) in enumerate(zip(inputs, given, strict=True)):
        if copied is not own and _shared(copied, output):
            found = _placed(output, copied, own)
            return number if found is None else found
    return output


def _shared(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    if other is None:  # what is no tensor comes as nothing
        return False
    address = one.untyped_storage().data_ptr()
    return bool(address) and address == other.untyped_storage().data_ptr()


def _placed(
    output: torch.Tensor, copied: torch.Tensor, own: torch.Tensor
) -> torch.Tensor | None:
    """Give the part of `own` that `output` is of `copied`, which has no gaps."""
    start = int(output.storage_offset() - copied.storage_offset())
    same_form = output.shape == copied.shape and output.stride() == copied.stride()
    if same_form and not start and output.dtype is copied.dtype:
        return own
    if output.dtype is not own.dtype or own.is_conj() or own.is_neg():
        return None
    first = _index(start, copied)
    steps = [_index(stride, copied) for stride in output.stride()]
    for dim, size in enumerate(copied.shape):
        pairs = zip(output.shape, steps, strict=True)
        if first[dim] + sum((n - 1) * step[dim] for n, step in pairs) >= size:
            return None  # it runs on from one row into the next
    strides = [_dot(step, own.stride()) for step in steps]
    offset = own.storage_offset() + _dot(first, own.stride())
    return own.as_strided(output.shape, strides, offset)


def _dot(index: Sequence[int], strides: Sequence[int]) -> int:
    return sum(i * stride for i, stride in zip(index, strides, strict=True))


def _index(place: int, of: torch.Tensor) -> list[int]:
    """Say which element of a tensor without gaps lies at a place of its memory."""
    index = [0] * of.ndim
    wide = [dim for dim in range(of.ndim) if of.shape[dim] > 1]
    for dim in sorted(wide, key=of.stride, reverse=True):
        index[dim], place = divmod(place, of.stride(dim))
    return index
