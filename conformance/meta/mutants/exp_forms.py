"""Mutants of the chapter EXP: exports that mislay arguments, results and manners."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import on_a_copy
from conformance.meta.mutants._around import (
    Answer,
    Args,
    Change,
    Kwargs,
    Ranges,
    accepts,
    around,
    results,
)
from conformance.meta.mutants._make import mutant
from conformance.models import applying
from conformance.models import export as models

if TYPE_CHECKING:
    from collections.abc import Callable


def _first_twice(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Mix up what comes by position with what comes by keyword."""
    result = answer(*args, **kwargs)
    return (
        pytree.tree_map_only(torch.Tensor, lambda x: x * 2, result) if args else result
    )


EXP_01 = mutant("EXP-01", apply=around(_first_twice))


def _poisons_caches(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    program = reference.export(module, call, dynamic=dynamic)
    with torch._subclasses.FakeTensorMode():
        models.angles(6)
    return program


def _leaves_a_mark(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    module.forward = types.MethodType(type(module).forward, module)
    program = reference.export(module, call, dynamic=dynamic)
    del module.forward
    return program


def _leaves_memories(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    program = reference.export(module, call, dynamic=dynamic)
    if isinstance(module, models.Memoir):
        module.seen[6] = torch.zeros(6, 4)
    return program


EXP_09_cache = mutant("EXP-09", export=_poisons_caches)
EXP_09_attribute = mutant("EXP-09", export=_leaves_memories)
EXP_10 = mutant("EXP-10", export=_leaves_a_mark)


def _loses_the_table(module: nn.Module) -> None:
    if hasattr(module, "table"):
        module.table = torch.ones(4)


EXP_11 = mutant("EXP-11", apply=on_a_copy(_loses_the_table))


def _drops_out(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return torch.nn.functional.dropout(answer(*args, **kwargs), 0.5)


EXP_12 = mutant("EXP-12", **accepts((applying.Noisy,), _drops_out))


def _mumbles(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    try:
        return reference.export(module, call, dynamic=dynamic)
    except Refused:
        raise Refused("the export failed") from None


EXP_13 = mutant("EXP-13", export=_mumbles)


def _believes_the_fake(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(*args, **kwargs).double().view(torch.float32)[..., :4]


def _believes_within(answer: Any, args: Args, kwargs: Kwargs) -> Any:
    promised = answer.__self__.proj(*args, **kwargs).double().view(torch.float32)
    return (promised[:, :4] + 1).sum(0)


EXP_14_result = mutant("EXP-14", **accepts((models.Lied,), _believes_the_fake))
EXP_14_within = mutant(
    "EXP-14", own_cache="within", **accepts((models.LiedWithin,), _believes_within)
)


def _deaf(*names: str) -> Change:
    captured = {"flag": True, "n": 3, "mode": "minus"}

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        return answer(*args, **{**kwargs, **{name: captured[name] for name in names}})

    return change


def _static(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if len(args[0]) != 5:  # the example's
        raise Refused("there is no range beside a flag")
    return answer(*args, **kwargs)


EXP_15_flag = mutant("EXP-15", apply=around(_deaf("flag")))
EXP_15_number = mutant("EXP-15", apply=around(_deaf("n")))
EXP_15_text = mutant("EXP-15", apply=around(_deaf("mode")))
EXP_15_static = mutant("EXP-15", apply=around(_static))


def _by_insertion(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    extra = dict(zip(("gain", "bias"), kwargs["extra"].values(), strict=True))
    return answer(*args, **{**kwargs, "extra": extra})


def _tensor_for_a_list(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    first, rest = kwargs["parts"]
    parts = first, rest if isinstance(rest, list) else [rest]
    return answer(*args, **{**kwargs, "parts": parts})


EXP_16_order = mutant("EXP-16", apply=around(_by_insertion))
EXP_16_list = mutant("EXP-16", apply=around(_tensor_for_a_list))


def _lists_for_tuples(result: Any) -> Any:
    if isinstance(result, dict) and "pair" in result:
        return {**result, "pair": list(result["pair"])}
    return result


def _without_nones(result: Any) -> Any:
    if type(result) is dict:
        return {key: value for key, value in result.items() if value is not None}
    return result


def _plain_dicts(result: Any) -> Any:
    return dict(result) if isinstance(result, dict) else result


def _tensors_for(kind: type) -> Callable[[Any], Any]:
    def change(result: Any) -> Any:
        if type(result) is not dict:
            return result
        return {k: torch.tensor(v) if type(v) is kind else v for k, v in result.items()}

    return change


def _without_text(result: Any) -> Any:
    if isinstance(result, tuple) and isinstance(result[-1], str):
        return (*result[:-1], None)
    return result


EXP_17_tuple = mutant("EXP-17", apply=results(_lists_for_tuples))
EXP_17_none = mutant("EXP-17", apply=results(_without_nones))
EXP_17_class = mutant("EXP-17", apply=results(_plain_dicts))
EXP_18_int = mutant("EXP-18", apply=results(_tensors_for(int)))
EXP_18_float = mutant("EXP-18", apply=results(_tensors_for(float)))
EXP_18_bool = mutant("EXP-18", apply=results(_tensors_for(bool)))
EXP_18_text = mutant("EXP-18", apply=results(_without_text))


def _turns_grad_off(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    torch.set_grad_enabled(False)
    return reference.export(module, call, dynamic=dynamic)


def _notes_the_export(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    program = reference.export(module, call, dynamic=dynamic)
    next(module.children()).program = program
    return program


EXP_21_grad = mutant("EXP-21", export=_turns_grad_off)
EXP_21_attribute = mutant("EXP-21", export=_notes_the_export)


def _narrow(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(*args, **kwargs).bfloat16().float()


EXP_22 = mutant(
    "EXP-22",
    **accepts((models.Joint,), _narrow, when=lambda: torch.is_autocast_enabled("cpu")),
)


def _forgets_the_rest(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(args[0], torch.zeros_like(args[0]), **kwargs)


def _forgets_names(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    known = {key: kwargs[key] for key in ("scale", "shift") if key in kwargs}
    return answer(*args, **{**known, "scale": 2.0})


EXP_23_positions = mutant("EXP-23", apply=around(_forgets_the_rest))
EXP_23_names = mutant("EXP-23", apply=around(_forgets_names))
