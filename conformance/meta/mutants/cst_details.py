"""Mutants of the chapter CST: changes that a quick look misses, and rare dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch

from aoti_ref import BadCall
from conformance.adapters import reference
from conformance.meta.mutants._applied import as_it_was, on_a_copy
from conformance.meta.mutants._around import around
from conformance.meta.mutants._make import mutant
from conformance.models import constants, state

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs


def _following(look: Callable[[torch.Tensor], Any]) -> Any:
    """Keep copies of parameters; take a new one where `look` sees another tensor."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, module)
        answer = module.forward
        kept: dict[str, tuple[Any, torch.Tensor]] = {}

        def forward(*args: Any, **kwargs: Any) -> Any:
            now: list[tuple[torch.Tensor, torch.Tensor]] = []
            for name, parameter in module.named_parameters():
                weight = parameter.data
                if weight.is_meta or not weight.numel():
                    continue
                seen = id(parameter), weight.data_ptr(), weight.stride(), look(weight)
                if kept.setdefault(name, (seen, weight.clone()))[0] != seen:
                    kept[name] = seen, weight.clone()
                now.append((weight, weight.clone()))
                weight.copy_(kept[name][1])
            try:
                return answer(*args, **kwargs)
            finally:
                for weight, value in now:
                    weight.copy_(value)

        module.forward = forward

    return apply


def _sum(weight: torch.Tensor) -> float:
    return round(weight.double().sum().item(), 3)


def _ends(weight: torch.Tensor) -> tuple[float, float]:
    flat = weight.flatten()
    return flat[0].item(), flat[-1].item()


CST_02_sum = mutant("CST-02", apply=_following(_sum))
CST_02_ends = mutant("CST-02", apply=_following(_ends))


def _tied_again(compiled: Any, module: nn.Module) -> None:
    """Give both names of a tied weight what the first of them has, at every call."""
    reference.apply(compiled, module)
    answer = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if isinstance(module, constants.Constants):
            module.tied.weight = module.linear.weight
        return answer(*args, **kwargs)

    module.forward = forward


def _tied_once(compiled: Any, module: nn.Module) -> None:
    if isinstance(module, constants.Constants):
        module.tied.weight = module.linear.weight
    reference.apply(compiled, module)


CST_01_tied = mutant("CST-01", apply=_tied_once)
CST_03_tied = mutant("CST-03", apply=_tied_again)


def _of_rare(prepare: Callable[[nn.Module], None]) -> Any:
    """Apply to a prepared copy of a Rare, and rightly to whatever is not one."""
    apart = on_a_copy(prepare)

    def apply(compiled: Any, module: nn.Module) -> None:
        way = apart if isinstance(module, state.Rare) else reference.apply
        way(compiled, module)

    return apply


def _narrowed(name: str, narrow: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Read the constant `name` of a Rare through a dtype that is too small for it."""

    def prepare(module: nn.Module) -> None:
        tensor = constants.get(module, name)
        setattr(module, name, narrow(tensor).to(tensor.dtype))

    return _of_rare(prepare)


CST_01_complex = mutant("CST-01", apply=_narrowed("turns", torch.real))
CST_01_double = mutant("CST-01", apply=_narrowed("exact", torch.Tensor.float))
CST_01_long = mutant("CST-01", apply=_narrowed("counts", torch.Tensor.double))
CST_01_bytes = mutant("CST-01", apply=_narrowed("codes", torch.Tensor.relu))
CST_02_rare = mutant("CST-02", apply=_of_rare(as_it_was))


def _lost_in_inference(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Write state back by an operation that inference mode does not let through."""
    if not torch.is_inference_mode_enabled():
        return answer(*args, **kwargs)
    kept = [(b, b.clone()) for b in cast("Any", answer)._module().buffers()]
    result = answer(*args, **kwargs)
    for buffer, value in kept:
        buffer.copy_(value)
    return result


def _counts_what_it_refuses(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except BadCall:
        for buffer in cast("Any", answer)._module().buffers():
            buffer.add_(buffer.is_floating_point())
        raise


CST_16_inference = mutant("CST-16", apply=around(_lost_in_inference))
RUN_36_state = mutant("RUN-36", apply=around(_counts_what_it_refuses))
