"""Mutants of the chapter EXP: exports that mislay arguments, sizes and results."""

from __future__ import annotations


import types
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from conformance.adapter import Range, Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import altered, on_a_copy
from conformance.meta.mutants._make import mutant
from conformance.models import export as models

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


def around(change: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> Any:
    """Apply as the reference does, then let `change` make every call."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, module)
        answer = module.forward
        module.forward = lambda *args, **kwargs: change(answer, args, kwargs)

    return apply


def _first_twice(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Mix up what comes by position with what comes by keyword."""
    result = answer(*args, **kwargs)
    return (
        pytree.tree_map_only(torch.Tensor, lambda x: x * 2, result) if args else result
    )


EXP_01 = mutant("EXP-01", apply=around(_first_twice))


def _forgives_keys(
    module: nn.Module, call: Any, *, dynamic: dict[str, Any] | None = None
) -> Any:
    known = {n: d for n, d in (dynamic or {}).items() if n == "hidden_states"}
    return reference.export(module, call, dynamic=known)


EXP_02 = mutant("EXP-02", export=_forgives_keys)


def _wrong_for_one(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = kwargs["hidden_states"]
    if x.shape[0] != 5:
        return answer(*args, **kwargs)
    one = answer(hidden_states=x[:1])[0]
    return (one.expand(5, -1, -1).contiguous(),)


EXP_03 = mutant("EXP-03", apply=around(_wrong_for_one))


def _unifies(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    (x,) = args
    side = min(x.shape)
    return answer(x[:side, :side].contiguous(), **kwargs)


EXP_04 = mutant("EXP-04", apply=around(_unifies))
EXP_05 = mutant(
    "EXP-05", apply=altered(lambda x: x * 1.01 if x.shape[1:2] == (23,) else x)
)


def _cuts(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    (x,) = args
    return answer(x[: x.shape[0] // 4 * 4], **kwargs)


def _rounds_ranges(
    module: nn.Module, call: Any, *, dynamic: dict[str, Any] | None = None
) -> Any:
    """Turn a range that the module contradicts into multiples of four."""
    if dynamic and isinstance(module, models.Grouped):
        dynamic = {"x": {0: Range("rows", 1, 8, times=4)}}
    return reference.export(module, call, dynamic=dynamic)


EXP_06 = mutant("EXP-06", export=_rounds_ranges, apply=around(_cuts))


def _rounds_derived(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x, y = args
    rows = min(x.shape[0], y.shape[0] // 2)
    return answer(x[:rows], y[: 2 * rows], **kwargs)


def _shortest(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    rows = min(len(x) for x in args)
    return answer(*(x[:rows] for x in args), **kwargs)


EXP_07 = mutant("EXP-07", apply=around(_rounds_derived))
EXP_08 = mutant("EXP-08", apply=around(_shortest))


def _poisons_caches(
    module: nn.Module, call: Any, *, dynamic: dict[str, Any] | None = None
) -> Any:
    program = reference.export(module, call, dynamic=dynamic)
    with torch._subclasses.FakeTensorMode():
        models.angles(6)
    return program


def _leaves_a_mark(
    module: nn.Module, call: Any, *, dynamic: dict[str, Any] | None = None
) -> Any:
    module.forward = types.MethodType(type(module).forward, module)  # type: ignore[assignment]
    program = reference.export(module, call, dynamic=dynamic)
    del module.forward
    return program


EXP_09 = mutant("EXP-09", export=_poisons_caches)
EXP_10 = mutant("EXP-10", export=_leaves_a_mark)


def _loses_the_table(module: nn.Module) -> None:
    if hasattr(module, "table"):
        module.table = torch.ones(4)  # type: ignore[assignment]


EXP_11 = mutant("EXP-11", apply=on_a_copy(_loses_the_table))


def _drops_out(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.dropout(x, 0.5)


def _exports_anything(
    module: nn.Module, call: Any, *, dynamic: dict[str, Any] | None = None
) -> Any:
    was = module.training
    program = reference.export(module.eval(), call, dynamic=dynamic)
    module.train(was)
    return program


def _applies_anything(compiled: Any, module: nn.Module) -> None:
    module.eval()
    altered(_drops_out)(compiled, module)


EXP_12 = mutant("EXP-12", export=_exports_anything, apply=_applies_anything)


def _mumbles(
    module: nn.Module, call: Any, *, dynamic: dict[str, Any] | None = None
) -> Any:
    try:
        return reference.export(module, call, dynamic=dynamic)
    except Refused:
        raise Refused("the export failed") from None


EXP_13 = mutant("EXP-13", export=_mumbles)


def _believes_the_fake(compiled: Any, module: nn.Module) -> None:
    module.forward = lambda x: module.proj(x).double().view(torch.float32)[:, :4]  # type: ignore[operator, assignment]


EXP_14 = mutant("EXP-14", apply=_believes_the_fake)


def _deaf_to_flags(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    captured = {"flag": True, "n": 3, "mode": "minus"}
    return answer(*args, **{**kwargs, **captured})


def _equal_is_same(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    captured = {"flag": True, "n": 3, "mode": "minus"}
    tolerant = {k: v for k, v in captured.items() if kwargs.get(k) == v}
    result = answer(*args, **{**kwargs, **tolerant})
    return {**result, "flag": True}


EXP_15_deaf = mutant("EXP-15", apply=around(_deaf_to_flags))
EXP_15_equal = mutant("EXP-15", apply=around(_equal_is_same))


def _by_insertion(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    extra = dict(zip(("gain", "bias"), kwargs["extra"].values(), strict=True))
    return answer(*args, **{**kwargs, "extra": extra})


def _first_of_a_list(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    first, rest = kwargs["parts"]
    parts = first, [rest[0]] if isinstance(rest, list) and rest else rest
    return answer(*args, **{**kwargs, "parts": parts})


EXP_16_order = mutant("EXP-16", apply=around(_by_insertion))
EXP_16_list = mutant("EXP-16", apply=around(_first_of_a_list))


def _lists_for_tuples(
    answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    result = answer(*args, **kwargs)
    if isinstance(result, dict) and "pair" in result:
        return {**result, "pair": list(result["pair"])}
    return result


def _tensors_for_ints(
    answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    result = answer(*args, **kwargs)
    return {k: torch.tensor(v) if type(v) is int else v for k, v in result.items()}


EXP_17 = mutant("EXP-17", apply=around(_lists_for_tuples))
EXP_18 = mutant("EXP-18", apply=around(_tensors_for_ints))


def _pads(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    x = kwargs["hidden_states"]
    return answer(hidden_states=torch.zeros(2, 8, 16) + x[:, :1])


EXP_19 = mutant("EXP-19", apply=around(_pads))


def _widens_ranges(
    module: nn.Module, call: Any, *, dynamic: dict[str, Any] | None = None
) -> Any:
    ranges = {"hidden_states": {1: Range("tokens", 2, 64)}} if dynamic else None
    return reference.export(module, call, dynamic=ranges)


EXP_20 = mutant("EXP-20", export=_widens_ranges)


def _turns_grad_off(
    module: nn.Module, call: Any, *, dynamic: dict[str, Any] | None = None
) -> Any:
    torch.set_grad_enabled(False)
    return reference.export(module, call, dynamic=dynamic)


EXP_21 = mutant("EXP-21", export=_turns_grad_off)


def _bakes_autocast(
    module: nn.Module, call: Any, *, dynamic: dict[str, Any] | None = None
) -> Any:
    baked = torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False):
        program = reference.export(module, call, dynamic=dynamic)
    program.graph_module.meta["baked"] = baked
    return program


def _narrow(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return answer(*args, **kwargs).bfloat16().float()


EXP_22 = mutant("EXP-22", export=_bakes_autocast, apply=around(_narrow))


def _forgets_the_rest(
    answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return answer(args[0], torch.zeros_like(args[0]), **kwargs)


EXP_23 = mutant("EXP-23", apply=around(_forgets_the_rest))
