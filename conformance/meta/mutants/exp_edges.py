"""Mutants of the chapter EXP: any range is taken, and any forward is the class's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from conformance.adapter import Range, Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import altered
from conformance.meta.mutants._around import Ranges, accepts, around, results
from conformance.meta.mutants._make import mutant
from conformance.models import export as models

if TYPE_CHECKING:
    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs

_TOKENS = {"hidden_states": {1: Range("tokens", 2, 24)}}


def _from_two(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    """Export what the reference refuses for another range, and say nothing."""
    try:
        return reference.export(module, call, dynamic=dynamic)
    except Refused:
        return reference.export(module, call, dynamic=_TOKENS)


def _something_for_nothing(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    x = kwargs["hidden_states"]
    if x.shape[1] >= 2:
        return answer(*args, **kwargs)
    (found,) = answer(*args, hidden_states=x.new_zeros(x.shape[0], 2, x.shape[2]))
    return (found[:, : x.shape[1]],)


EXP_05_nothing = mutant(
    "EXP-05", export=_from_two, apply=around(_something_for_nothing)
)


def _by_the_class(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    """Export the forward of the class, where the instance has one of its own."""
    own = vars(module).pop("forward", None)
    try:
        return reference.export(module, call, dynamic=dynamic)
    finally:
        vars(module).update({} if own is None else {"forward": own})


EXP_23_instance = mutant("EXP-23", own_cache="instance", export=_by_the_class)


def _a_tuple(found: Any) -> Any:
    return tuple(found) if type(found) is list else found


def _in_order(found: Any) -> Any:
    """Sort the entries of dicts in a list, as JSON does where it is told to."""
    if type(found) is not list:
        return found
    return [dict(sorted(x.items())) if isinstance(x, dict) else x for x in found]


def _sizes_as_tuples(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    found, shape = answer(*args, **kwargs)
    return found, tuple(shape)


EXP_05_sixteen = mutant(
    "EXP-05", apply=altered(lambda x: x * 1.01 if x.shape[1:2] == (16,) else x)
)
EXP_17_list = mutant("EXP-17", apply=results(_a_tuple))
EXP_17_order = mutant("EXP-17", apply=results(_in_order))
EXP_17_sizes = mutant("EXP-17", **accepts((models.Shaped,), _sizes_as_tuples))


def _bare_tensors(result: Any) -> Any:
    """Give a number that is the whole result as the tensor that it was in the graph."""
    return torch.tensor(result) if isinstance(result, (int, float)) else result


def _nothing_is_a_tuple(result: Any) -> Any:
    return () if result is None or isinstance(result, str) else result


EXP_18_bare = mutant("EXP-18", apply=results(_bare_tensors))
EXP_18_nothing = mutant("EXP-18", apply=results(_nothing_is_a_tuple))
