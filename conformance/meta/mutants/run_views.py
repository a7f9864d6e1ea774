"""Mutants of the chapters RUN and CMP: memory that is taken for other memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aoti_ref import _check, _lent, _plan
from conformance.meta.mutants._around import checking
from conformance.meta.mutants._lenient import overlooks, stateful
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    import torch

    from aoti_ref._contract import Contract
    from conformance.meta.mutants._around import Answer, Args, Change, Kwargs

_placed, _draw, _laid_out = _lent._placed, _plan.draw, _plan.laid_out


def _by_shape(
    output: torch.Tensor, copied: torch.Tensor, own: torch.Tensor
) -> torch.Tensor | None:
    """Take a result that begins where an argument does, in its shape, for all of it."""
    same = output.shape == copied.shape
    if same and output.storage_offset() == copied.storage_offset():
        return own
    return _placed(output, copied, own)


RUN_32_turned = mutant("RUN-32", apply=checking(_lent, "_placed", _by_shape))


def _once_is_enough(contract: Contract, *of_the_call: Any) -> Any:
    """Look for memory that is shared at the first call of a form only."""
    return _draw(replace(contract, mutates_inputs=False), *of_the_call)


CMP_08_later = mutant("CMP-08", apply=checking(_check, "draw", _once_is_enough))
RUN_29_transforms = mutant("RUN-29", apply=overlooks("transform"))


def _asks_kinds_once() -> Change:
    """Take a list for a tuple, and the first two for all, once a call was good."""
    good: list[bool] = []

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        if good and "both" in kwargs and isinstance(kwargs["both"], (list, tuple)):
            kwargs = {**kwargs, "both": tuple(kwargs["both"][:2])}
        result = answer(*args, **kwargs)
        good.append(True)
        return result

    return change


RUN_38_kinds = mutant("RUN-38", apply=stateful(_asks_kinds_once))


def _dense_is_fine(
    leaf: torch.Tensor, order: tuple[int, ...], *, dense: bool
) -> torch.Tensor:
    """Pass on what has no gaps, in whatever order the graph wants its elements."""
    return leaf if leaf.is_contiguous() else _laid_out(leaf, order, dense=dense)


RUN_20_later = mutant("RUN-20", apply=checking(_plan, "laid_out", _dense_is_fine))
