"""Mutants of the chapters APP, NUM, QNT and RUN: right in the case that is tried."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

import aoti_ref
from conformance import tensors
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._around import around, results
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs


def _if(alike: Callable[[tuple[int, ...], tuple[int, ...]], bool]) -> Any:
    """Take weights whose shapes are alike, and answer with something."""

    def apply(compiled: Any, module: nn.Module) -> None:
        try:
            reference.apply(compiled, module)
        except Refused:
            named = module.named_parameters(remove_duplicate=False)
            held = {**dict(named), **dict(module.named_buffers())}
            wanted = [c for m in compiled.models for c in m.package.constants]
            if not all(
                c.name in held
                and str(held[c.name].dtype) == f"torch.{c.dtype}"
                and held[c.name].device.type == c.device
                and held[c.name].ndim == len(c.shape)
                and alike(tuple(held[c.name].shape), c.shape)
                for c in wanted
            ):
                raise
            module.forward = lambda *args, **_kwargs: args[0]

    return apply


APP_03_columns = mutant("APP-03", apply=_if(lambda one, other: one[:1] == other[:1]))
APP_03_elements = mutant(
    "APP-03", apply=_if(lambda one, other: math.prod(one) == math.prod(other))
)


def _asked_for_plainly(compiled: Any, module: nn.Module) -> None:
    """Give a state dict of one's own, that nobody asks for otherwise."""
    reference.apply(compiled, module)
    kind = type(module)
    module.state_dict = lambda **_options: kind.state_dict(module)  # type: ignore[assignment]


APP_10_options = mutant("APP-10", apply=_asked_for_plainly)

_NARROW = (torch.bfloat16, torch.float16)


def _finite_if_narrow(result: Any) -> Any:
    def finite(x: torch.Tensor) -> torch.Tensor:
        return x.nan_to_num() if x.dtype in _NARROW else x

    return pytree.tree_map_only(torch.Tensor, finite, result)


NUM_05_narrow = mutant("NUM-05", apply=results(_finite_if_narrow))


def _follows_the_first(compiled: Any, module: nn.Module) -> None:
    """Follow the scales and values of the first quantised layer only."""
    reference.apply(compiled, module)
    answer, twin = module.forward, copy.deepcopy(module)
    weights = [n for n, p in module.named_parameters() if _bytes(p)]

    def forward(*args: Any, **kwargs: Any) -> Any:
        found, then = (
            [_bytes(each.get_parameter(name)) for name in weights[1:]]
            for each in (module, twin)
        )
        return (answer if found == then else twin.forward)(*args, **kwargs)

    module.forward = forward


def _bytes(weight: torch.Tensor) -> list[Any]:
    if not hasattr(weight, "__tensor_flatten__"):
        return []
    return [t.view(torch.uint8).tolist() for _, t in tensors.inside(weight)]


QNT_06_first = mutant("QNT-06", apply=_follows_the_first)


def _one_for_true(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Take a boolean for the number that it is an instance of."""
    try:
        return answer(*args, **kwargs)
    except aoti_ref.BadCall:
        if kwargs.get("strict") is not True:
            raise
        return answer(*args, **{**kwargs, "strict": 1})


RUN_06_instances = mutant("RUN-06", apply=around(_one_for_true))
