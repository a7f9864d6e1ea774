"""Mutants of the chapters APP and CST: a part is asked, and not the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aoti_ref import _binding, _containers
from aoti_ref._weights import memory
from conformance.adapters import reference
from conformance.meta.mutants._around import checking, without
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from torch import nn

_holds = _binding.Binding.holds


def _asks_children_only(compiled: Any, module: nn.Module) -> None:
    training, module.training = module.training, False
    reference.apply(compiled, module)
    module.training = training
    answer = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        training, module.training = module.training, False
        try:
            return answer(*args, **kwargs)
        finally:
            module.training = training

    module.forward = forward


def _knows_boxes_by_identity(binding: Any, module: nn.Module) -> bool:
    kept = binding._nested
    binding._nested = [
        (way, then, None if then is None else memory(then)) for way, then, _ in kept
    ]
    try:
        return _holds(binding, module)
    finally:
        binding._nested = kept


APP_25_alone = mutant("APP-25", apply=_asks_children_only)
CST_23_moved = mutant(
    "CST-23", apply=checking(_binding.Binding, "holds", _knows_boxes_by_identity)
)


def _takes_what_is_there(
    module: nn.Module, _constants: Any, places: Any, **_how: Any
) -> Any:
    return {name: place.get(module) for name, place in places.items()}, []


CST_23_misfit = mutant(
    "CST-23", apply=without(_containers, "resolve", _takes_what_is_there)
)
