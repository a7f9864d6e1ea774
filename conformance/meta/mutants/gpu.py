"""Mutants that take a GPU: streams, captured graphs, devices, products of FP8."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _host
from conformance.adapters import reference
from conformance.meta.mutants._applied import Held, on_a_copy
from conformance.meta.mutants._around import around
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants._packages import careless, sharing
from conformance.meta.mutants.qnt import unscaled
from conformance.parity import plain

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs


_kept: list[Any] = []


def _on_the_default_stream(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    with torch.cuda.stream(torch.cuda.default_stream()):
        return answer(*args, **kwargs)


def _waits(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    torch.cuda.synchronize()
    return answer(*args, **kwargs)


RUN_43_default = mutant("RUN-43", apply=around(_on_the_default_stream))
RUN_43_waits = mutant("RUN-43", apply=around(_waits))


def _once(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if torch.cuda.is_current_stream_capturing():
        return torch.zeros_like(kwargs["hidden_states"])
    return answer(*args, **kwargs)


def _from_memory(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if torch.cuda.is_current_stream_capturing():
        return _kept[-1]
    _kept.append(answer(*args, **kwargs))
    return _kept[-1]


RUN_44 = mutant("RUN-44", apply=around(_once))
RUN_44_after = mutant("RUN-44", apply=around(_from_memory))


def _brings_along(compiled: Any, module: nn.Module) -> None:
    device = next(module.parameters()).device
    reference.apply(compiled, module)
    answer = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        moved = pytree.tree_map_only(
            torch.Tensor, lambda tensor: tensor.to(device), (args, kwargs)
        )
        return answer(*moved[0], **moved[1])

    module.forward = forward


def _keeps_what_it_refuses(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except Exception:
        _kept.append((args, kwargs))
        raise


RUN_46 = mutant("RUN-46", apply=around(_keeps_what_it_refuses))
RUN_45 = mutant("RUN-45", apply=_brings_along)
PRC_34 = mutant("PRC-34", apply=_brings_along)


def _stays_there(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    torch.cuda.set_device(next(module.parameters()).device)


def _on_the_first(folder: Path) -> Any:
    torch.cuda.set_device(0)
    return reference.load(folder)


def _with_a_copy(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    _kept.append(torch.zeros(32 << 20, dtype=torch.uint8, device="cuda"))


PRC_35 = sharing("PRC-35", load=_on_the_first)
PRC_35_copies = mutant("PRC-35", apply=_with_a_copy)
PKG_25 = sharing("PKG-25", load=careless((_host, "gpu_faults", lambda *_: [])))
PRC_33 = mutant("PRC-33", apply=_stays_there)


def _asks(module: nn.Module, scheme: str) -> dict[str, str]:
    torch.cuda._lazy_init()  # type: ignore[no-untyped-call]
    return reference.quantize(module, scheme)


QNT_19 = mutant("QNT-19", quantize=_asks)
QNT_20 = mutant("QNT-20", apply=on_a_copy(unscaled))


def _turned_back(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    twin = plain(copy.deepcopy(module))
    del twin.forward
    module.forward = Held(twin)


QNT_21 = mutant("QNT-21", apply=_turned_back)


def _wrong_at_odd(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    result = answer(*args, **kwargs)
    return result * 1.5 if result.shape[0] % 16 else result


def _noisy(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    result = answer(*args, **kwargs)
    return result + 0.2 * result.abs().mean() * torch.randn_like(result).sign()


QNT_22 = mutant("QNT-22", apply=around(_wrong_at_odd))
QNT_23 = mutant("QNT-23", apply=around(_noisy))
