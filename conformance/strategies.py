"""What Hypothesis draws: sizes and seeds, never tensors.

A failure then reads `tokens=2, seed=0`, and can be typed back in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from conformance.perturb import KINDS

if TYPE_CHECKING:
    from conformance.adapter import Range


def seeds() -> st.SearchStrategy[int]:
    """Seeds for weights and inputs. Shrinks towards 0."""
    return st.integers(0, 2**31 - 1)


def sizes(dim: Range) -> st.SearchStrategy[int]:
    """Sizes that `dim` admits, its two ends most often. Shrinks towards the least."""
    ends = st.sampled_from([dim.min, dim.max])
    return (ends | st.integers(dim.min, dim.max)).map(lambda n: n * dim.times)


def sizes_outside(dim: Range) -> st.SearchStrategy[int]:
    """Sizes that `dim` forbids, its neighbours most often, up to twice its largest."""
    smallest, largest = dim.min * dim.times, dim.max * dim.times
    near = [n for n in (smallest - 1, largest + 1) if n > 0]
    anywhere = st.integers(1, 2 * largest).filter(
        lambda n: not smallest <= n <= largest or n % dim.times != 0
    )
    return st.sampled_from(near) | anywhere


def perturbations() -> st.SearchStrategy[tuple[str, int]]:
    """Kinds of perturbation, each with a seed for its choices. Shrinks towards 0."""
    return st.tuples(st.sampled_from(list(KINDS)), st.integers(0, 2**16))
