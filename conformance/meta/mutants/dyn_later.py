"""Mutants of the chapter DYN: a quick look at forms of call, or at what is dense."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from aoti_ref import _plan
from conformance.meta.mutants._applied import altered
from conformance.meta.mutants._around import around, checking
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants.run_tensors import misread, tensors

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZED: Any = _plan._sized
_Wants = tuple[Any, ...]


def _one_too_many(shape: Any, wants: _Wants, roots: dict[str, int]) -> bool:
    wide = (w if isinstance(w, int) else (*w[:4], w[4] + 1) for w in wants)
    return bool(_SIZED(shape, tuple(wide), roots))


def _the_last_counts(shape: Any, wants: _Wants, roots: dict[str, int]) -> bool:
    """Let the last dimension of a range stand for all of its dimensions in a tensor."""
    own: dict[str, int] = {}
    for size, want in zip(shape, wants, strict=False):
        seen: dict[str, int] = {}
        if not _SIZED((size,), (want,), seen):
            return False
        own.update(seen)
    return len(shape) == len(wants) and all(
        roots.setdefault(symbol, root) == root for symbol, root in own.items()
    )


def _fixed_as_it_comes(shape: Any, wants: _Wants, roots: dict[str, int]) -> bool:
    """Look at dimensions with ranges only."""
    pairs = zip(shape, wants, strict=False)
    ranged = [(size, want) for size, want in pairs if not isinstance(want, int)]
    sizes, kept = zip(*ranged, strict=True)
    return len(shape) == len(wants) and bool(_SIZED(sizes, kept, roots))


def _sizing(check: Callable[..., bool]) -> Any:
    return checking(_plan, "_sized", check)


DYN_04_later = mutant("DYN-04", apply=_sizing(_one_too_many))
DYN_07_later = mutant("DYN-07", apply=_sizing(_the_last_counts))
DYN_09_later = mutant("DYN-09", apply=_sizing(_fixed_as_it_comes))


def _any_dense_order(x: torch.Tensor) -> torch.Tensor:
    """Take a video whose channels lie last for one without gaps, which it is."""
    last = x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    return misread(x) if last else x


DYN_11_channels = mutant("DYN-11", apply=around(tensors(_any_dense_order)))

# A picture of sizes that are neither ends of their ranges nor the example's.
_MIDDLE = (3, 4, 4, 8, 10)
DYN_01_middle = mutant(
    "DYN-01", apply=altered(lambda x: x * 1.01 if x.shape == _MIDDLE else x)
)
DYN_10_middle = mutant(
    "DYN-10", apply=altered(lambda x: x * 1.01 if x.shape[1:2] == (42,) else x)
)
