"""Mutants of the chapter RUN: what is easily overlooked in a call."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from aoti_ref import BadCall
from conformance.adapter import Refused
from conformance.meta.mutants._around import around
from conformance.meta.mutants._lenient import stateful
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants.run_tensors import tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.meta.mutants._around import Answer, Args, Change, Kwargs

_POSITIONAL = ("x", "ids", "mask")
_KEYWORDS = (*_POSITIONAL, "size", "parts", "extra")


def _of_many(change: Change) -> Change:
    """Let `change` make the calls of Many, and no others."""

    def chosen(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        return (change if "parts" in kwargs else _plainly)(answer, args, kwargs)

    return chosen


def _plainly(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(*args, **kwargs)


def _names_win(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if len(args) > len(_POSITIONAL):
        return answer(*args, **kwargs)
    return answer(**{**dict(zip(_POSITIONAL, args, strict=False)), **kwargs})


def _without_nones(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    known = {k: v for k, v in kwargs.items() if v is not None or k in _KEYWORDS}
    return answer(*args, **known)


RUN_04_twice = mutant("RUN-04", apply=around(_of_many(_names_win)))
RUN_04_none = mutant("RUN-04", apply=around(_of_many(_without_nones)))


def _zero_is_zero(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(*args, **{k: 0.0 if v == 0 else v for k, v in kwargs.items()})


def _signed_only(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return (_zero_is_zero if "by" in kwargs else _plainly)(answer, args, kwargs)


RUN_05_zero = mutant("RUN-05", apply=around(_signed_only))


def _as_tensors(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    made = [
        torch.as_tensor(x) if isinstance(x, (list, np.ndarray)) else x for x in args
    ]
    return answer(*made, **kwargs)


RUN_10_lists = mutant("RUN-10", apply=around(_of_many(_as_tensors)))


def _last_for_nothing() -> Change:
    """Take what is empty for what was given last: `parts or self.parts`."""
    last: Kwargs = {}

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        for name in ("parts", "extra"):
            kwargs[name] = kwargs[name] or last.get(name)
        result = answer(*args, **kwargs)
        last.update(kwargs)
        return result

    return _of_many(change)


def _ordered_by_place(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    extra = kwargs.get("extra")
    if isinstance(extra, OrderedDict):
        kwargs["extra"] = dict(zip(("gain", "bias"), extra.values(), strict=True))
    return answer(*args, **kwargs)


RUN_11_empty = mutant("RUN-11", apply=stateful(_last_for_nothing))
RUN_11_ordered = mutant("RUN-11", apply=around(_ordered_by_place))


def _repeats(x: torch.Tensor) -> torch.Tensor:
    """Read float32[6, 8] as the expanded example is laid out."""
    return x[:1].expand(x.shape) if x.shape == (6, 8) else x


def _halves(x: torch.Tensor) -> torch.Tensor:
    """Read float32[6, 8] as the example with gaps is laid out."""
    if x.shape != (6, 8) or not x.is_contiguous():
        return x
    wide = torch.cat([x.flatten(), x.new_zeros(48)])
    return wide.view(6, 16)[:, ::2]


RUN_20_expanded = mutant("RUN-20", apply=around(tensors(_repeats)))
RUN_20_gaps = mutant("RUN-20", apply=around(tensors(_halves)))


def _remembers(key: Callable[[torch.Tensor], Any]) -> Any:
    """Give the answer of before where the tensors of a call have the keys of then."""

    def make() -> Change:
        known: dict[Any, Any] = {}

        def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
            result = answer(*args, **kwargs)
            leaves = pytree.tree_leaves((args, kwargs))
            found = [
                key(x) for x in leaves if isinstance(x, torch.Tensor) and x.numel()
            ]
            return known.setdefault(tuple(found), (result, leaves))[0]

        return _of_many(change)

    return stateful(make)


def _counted(x: torch.Tensor) -> Any:
    return x.data_ptr(), x._version, x.shape, x.stride()


def _ends(x: torch.Tensor) -> Any:
    flat = x.flatten()
    return x.shape, flat[0].item(), flat[-1].item()


RUN_24_counted = mutant("RUN-24", apply=_remembers(_counted))
RUN_24_ends = mutant("RUN-24", apply=_remembers(_ends))


def _bare_integers(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_floating_point() else x.as_subclass(torch.Tensor)


def _cut_off(x: torch.Tensor) -> torch.Tensor:
    return x if x.is_leaf else x.detach()


RUN_27_integers = mutant("RUN-27", apply=around(tensors(_bare_integers)))
RUN_29_inner = mutant("RUN-29", apply=around(tensors(_cut_off)))


def _looks_for_bfloat16(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if torch.get_autocast_dtype("cpu") is torch.bfloat16:
        return answer(*args, **kwargs)
    with torch.autocast("cpu", enabled=False):
        return answer(*args, **kwargs)


RUN_31_float16 = mutant("RUN-31", apply=around(_looks_for_bfloat16))


def _gives_copies_back(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Make arguments dense, and return the copies where eager returns the arguments."""
    return answer(*(x.contiguous() for x in args), **kwargs)


def _of_returned(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    result = answer(*args, **kwargs)
    if not isinstance(result, dict) or "view" not in result:
        return result
    return _gives_copies_back(answer, args, kwargs)


RUN_32_copies = mutant("RUN-32", apply=around(_of_returned))


def _mumbles_of(*kinds: str) -> Any:
    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        try:
            return answer(*args, **kwargs)
        except BadCall as error:
            if any(fault.kind not in kinds for fault in error.faults):
                raise
            raise Refused("the call does not fit the compiled graph") from None

    return around(change)


RUN_34_values = mutant("RUN-34", apply=_mumbles_of("value"))
RUN_34_names = mutant("RUN-34", apply=_mumbles_of("arguments", "missing"))
RUN_34_places = mutant("RUN-34", apply=_mumbles_of("device", "layout"))


def _structure_first(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except BadCall as error:
        early = [f for f in error.faults if f.kind in ("structure", "type")]
        raise BadCall(error.module, tuple(early or error.faults)) from None


RUN_35_structure = mutant("RUN-35", apply=around(_structure_first))


def _trusts() -> Change:
    """Look at the first thousand calls."""
    good: list[Any] = []

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        try:
            good.append(answer(*args, **kwargs))
        except BadCall:
            if len(good) < 1000:
                raise
        return good[-1]

    return change


RUN_38_trusts = mutant("RUN-38", apply=stateful(_trusts))
