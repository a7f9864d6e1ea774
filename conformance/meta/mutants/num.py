"""Mutants of the chapter NUM: answers that are nearly right."""

from __future__ import annotations

import copy
import inspect
import itertools
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from conformance.adapters import reference
from conformance.meta.mutants._applied import altered, as_it_was, on_a_copy
from conformance.meta.mutants._lenient import stateful
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Change, Kwargs


def _drift(x: torch.Tensor) -> torch.Tensor:
    return x + 1e-3 if x.dtype == torch.float32 else x


def _coarse_bfloat16(x: torch.Tensor) -> torch.Tensor:
    return x * 1.05 if x.dtype == torch.bfloat16 else x


def _never_infinite(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(-65504, 65504) if x.dtype == torch.float16 else x


def _numbers_only(x: torch.Tensor) -> torch.Tensor:
    return torch.nan_to_num(x) if x.is_floating_point() else x


def _unsteady(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + 1e-7 * torch.randn_like(x)) if x.dtype == torch.float32 else x


def _all_float32(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.is_floating_point() else x


def _through(dtype: torch.dtype, narrow: torch.dtype) -> Any:
    """Pass results of `dtype` through one that is too small for them."""
    return altered(lambda x: x.to(narrow).to(dtype) if x.dtype is dtype else x)


def _upright(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous()


NUM_01 = mutant("NUM-01", apply=altered(_drift))
NUM_02 = mutant("NUM-02", apply=altered(_coarse_bfloat16))
NUM_03 = mutant("NUM-03", apply=altered(_never_infinite))
NUM_04_dtype = mutant("NUM-04", apply=altered(_all_float32))
NUM_04_strides = mutant("NUM-04", apply=altered(_upright))
NUM_04_double = mutant("NUM-04", apply=_through(torch.float64, torch.float32))
NUM_04_long = mutant("NUM-04", apply=_through(torch.int64, torch.float64))
NUM_05 = mutant("NUM-05", apply=altered(_numbers_only))
NUM_06 = mutant("NUM-06", apply=altered(_unsteady))


def _eager_in_disguise(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, copy.deepcopy(module))


def _drifts_step_by_step(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer, steps = module.forward, itertools.count(1)
    signature = inspect.signature(answer)

    def forward(*args: Any, **kwargs: Any) -> Any:
        share = 1 + 1e-4 * next(steps)
        result = answer(*args, **kwargs)
        return pytree.tree_map_only(torch.Tensor, lambda x: x * share, result)

    forward.__signature__ = signature  # type: ignore[attr-defined]
    module.forward = forward


def _first_block_for_all(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, torch.nn.ModuleList):
            for block in list(child)[1:]:
                block.load_state_dict(child[0].state_dict(), strict=False)


NUM_07_disguise = mutant("NUM-07", apply=_eager_in_disguise)
NUM_07_drift = mutant("NUM-07", apply=_drifts_step_by_step)
NUM_08_stale = mutant("NUM-08", apply=on_a_copy(as_it_was))
NUM_08_first = mutant("NUM-08", apply=on_a_copy(_first_block_for_all))
NUM_09 = mutant("NUM-09", apply=altered(_coarse_bfloat16))


def _writes_into_arguments(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        result = answer(*args, **kwargs)
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                leaf.mul_(0.5)
        return result

    module.forward = forward


def _reuses_its_result(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer, kept = module.forward, {}  # type: ignore[var-annotated]

    def keep(x: torch.Tensor) -> torch.Tensor:
        mine = kept.setdefault((x.shape, x.dtype), torch.empty_like(x))
        return mine.copy_(x)  # type: ignore[no-any-return]

    def forward(*args: Any, **kwargs: Any) -> Any:
        return pytree.tree_map_only(torch.Tensor, keep, answer(*args, **kwargs))

    module.forward = forward


NUM_10 = mutant("NUM-10", apply=_writes_into_arguments)
NUM_11 = mutant("NUM-11", apply=_reuses_its_result)


def _a_ring() -> Any:
    """Give results in sixteen buffers of each form, one after the other."""
    rings: dict[Any, deque[torch.Tensor]] = {}

    def placed(x: torch.Tensor) -> torch.Tensor:
        ring = rings.setdefault((x.shape, x.dtype), deque(maxlen=16))
        ring.append(ring[0].copy_(x) if len(ring) == ring.maxlen else x.clone())
        return ring[-1]

    return altered(placed)


def _a_pool() -> Any:
    """Give the memory of a result again when its object is gone: not so its views."""
    pool: dict[Any, tuple[torch.UntypedStorage, weakref.ref[torch.Tensor]]] = {}

    def placed(x: torch.Tensor) -> torch.Tensor:
        result = x.clone()
        if (x.shape, x.dtype) in pool:
            storage, holder = pool[x.shape, x.dtype]
            if holder() is None:
                result = x.new_empty(0).set_(storage, 0, x.shape, x.stride()).copy_(x)
        pool[x.shape, x.dtype] = result.untyped_storage(), weakref.ref(result)
        return result

    return altered(placed)


def _one_container() -> Change:
    """Fill one container anew at every call."""
    first: list[Any] = []

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        result = answer(*args, **kwargs)
        if not isinstance(result, dict):
            return result
        first.append(result)
        for name, tensor in result.items():
            first[0][name] = tensor
        return first[0]

    return change


NUM_11_ring = mutant("NUM-11", apply=_a_ring())
NUM_11_views = mutant("NUM-11", apply=_a_pool())
NUM_11_containers = mutant("NUM-11", apply=stateful(_one_container))
