"""Mutants of the chapter MEM: weights, calls and results that stay."""

from __future__ import annotations

import copy
import os
import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from aoti_ref import _inductor
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import afterwards, as_it_was, on_a_copy
from conformance.meta.mutants._around import Answer, Args, Kwargs, around, results
from conformance.meta.mutants._lenient import stateful
from conformance.meta.mutants._make import Mutant, mutant
from conformance.workbench import attempt

if TYPE_CHECKING:
    from pathlib import Path

_kept: list[Any] = []


def _untouched_blob(module: nn.Module) -> None:
    """Allocate a place for every constant, as a runtime does, and never fill it."""
    _kept.extend(torch.empty_like(p) for p in module.parameters())


def _moment(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.detach().clone().add_(1)


MEM_01_copies = mutant("MEM-01", apply=on_a_copy(as_it_was))
MEM_01_blob = mutant("MEM-01", apply=afterwards(_untouched_blob))
MEM_02 = mutant("MEM-02", apply=afterwards(_moment))


def _holds_after_restore(module: nn.Module) -> None:
    reference.restore(module)
    _kept.append(module)


def _way_back(module: nn.Module) -> None:
    reference.restore(module)
    module.way_back = copy.deepcopy(module.state_dict())  # type: ignore[assignment]


MEM_03_holds = mutant("MEM-03", restore=_holds_after_restore)
MEM_03_copies = mutant("MEM-03", restore=_way_back)


def _keeps_handles(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Keep what was bound, as torch's runner does."""
    _kept.append([t.detach() for t in _tensors(answer)])
    return answer(*args, **kwargs)


def _tensors(answer: Answer) -> list[torch.Tensor]:
    module = answer._module()  # type: ignore[attr-defined]
    return list(module.parameters())


MEM_04 = mutant("MEM-04", apply=around(_keeps_handles))
MEM_05 = mutant("MEM-05", apply=around(_keeps_handles))
MEM_06 = mutant("MEM-06", apply=around(_keeps_handles))


def _unshares(module: nn.Module) -> None:
    for name, parameter in list(module.named_parameters()):
        path, _, key = name.rpartition(".")
        clone = nn.Parameter(parameter.clone(), requires_grad=False)
        setattr(module.get_submodule(path), key, clone)
        if hasattr(module, "decode"):
            module.decode.weight = clone  # type: ignore[union-attr]


def _unshares_first(compiled: Any, module: nn.Module) -> None:
    _unshares(module)
    reference.apply(compiled, module)


MEM_07_moves = mutant("MEM-07", apply=_unshares_first)
MEM_07_copies = mutant("MEM-07", apply=on_a_copy(as_it_was))


def _loading(load: Any) -> Mutant:
    """Break loading; packages stay the reference's."""
    return replace(mutant("MEM-08", load=load), info=reference.info)


def _loads_with_descriptor(folder: Path) -> Any:
    _kept.append(os.open(folder, os.O_RDONLY))
    return reference.load(folder)


def _loads_and_keeps(folder: Path) -> Any:
    compiled = reference.load(folder)
    _kept.append(pickle.dumps(compiled))
    return compiled


def _loads_anew(folder: Path) -> Any:
    """Load the library as if it had never been loaded."""
    compiled = reference.load(folder)
    compiled.package._digest += str(len(_kept))
    _kept.append(None)
    return compiled


MEM_08_descriptors = _loading(_loads_with_descriptor)
MEM_08_archives = _loading(_loads_and_keeps)
MEM_08_libraries = _loading(_loads_anew)


def _remembers(result: Any) -> Any:
    _kept.append(result)
    return result


MEM_09 = mutant("MEM-09", apply=results(_remembers))


def _remembers_refused(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        _kept.append(module)
        raise


def _remembers_misfits(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    ended = attempt(lambda: answer(*args, **kwargs))
    if ended.error is None:
        return ended.value
    _kept.append(_tensors(answer))
    raise ended.error


MEM_10_applies = mutant("MEM-10", apply=_remembers_refused)
MEM_10_calls = mutant("MEM-10", apply=around(_remembers_misfits))


def _keeps_program(exported: Any, *, options: dict[str, Any] | None = None) -> Any:
    _kept.append(exported)
    return reference.compile(exported, options=options)


def _keeps_example(
    module: nn.Module, call: Any, *, dynamic: dict[str, Any] | None = None
) -> Any:
    _kept.append(call)
    return reference.export(module, call, dynamic=dynamic)


MEM_11_program = mutant("MEM-11", compile=_keeps_program, own_cache="program")
MEM_11_example = mutant("MEM-11", export=_keeps_example, own_cache="example")


class _LastCall:
    """Keeps the arguments of the last call, or its result, to debug with."""

    def __init__(self, which: int) -> None:
        self.which = which
        self.last: Any = None

    def __call__(self, answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        result = answer(*args, **kwargs)
        self.last = (args, result)[self.which]
        return result


MEM_12_arguments = mutant("MEM-12", apply=stateful(lambda: _LastCall(0)))
MEM_12_results = mutant("MEM-12", apply=stateful(lambda: _LastCall(1)))


class _LastLeaves(_LastCall):
    """Keeps what stood in containers, until the next call."""

    def __call__(self, answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        containers = [v for v in kwargs.values() if isinstance(v, (dict, list, tuple))]
        self.last = pytree.tree_leaves(containers)
        return answer(*args, **kwargs)


MEM_12_nested = mutant("MEM-12", apply=stateful(lambda: _LastLeaves(0)))


class _OneBuffer:
    """Gives every result in one buffer."""

    def __init__(self) -> None:
        self.buffer: torch.Tensor | None = None

    def __call__(self, answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        result = answer(*args, **kwargs)
        if self.buffer is None:
            self.buffer = result.clone()
        return self.buffer.copy_(result)


class _Freed:
    """Gives results in memory that goes with the module, to somebody else."""

    def __init__(self) -> None:
        self.results: list[torch.Tensor] = []

    def __call__(self, answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        self.results.append(answer(*args, **kwargs))
        return self.results[-1]

    def __del__(self) -> None:
        for result in self.results:
            result.fill_(1e30)


MEM_13_reused = mutant("MEM-13", apply=stateful(_OneBuffer))
MEM_13_freed = mutant("MEM-13", apply=stateful(_Freed))


class _ByName:
    """Pickles what it answers with, and every weight under each of its names."""

    def __init__(self, answer: Any, weights: list[torch.Tensor]) -> None:
        self.answer = answer
        self.weights = weights

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.answer(*args, **kwargs)


def _pickles_by_name(module: nn.Module) -> None:
    named = module.named_parameters(remove_duplicate=False)
    module.forward = _ByName(module.forward, [p.clone() for _, p in named])


def _pickles_weights(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    archive = compiled.package.archive
    weights = b"".join(bytes(p.numel()) for p in module.parameters())
    compiled.package.archive = archive + weights


MEM_14_names = mutant("MEM-14", apply=afterwards(_pickles_by_name))
MEM_14_weights = mutant("MEM-14", apply=_pickles_weights)


def _folds(exported: Any, *, options: dict[str, Any] | None = None) -> Any:
    kept = {k: v for k, v in (options or {}).items() if k not in _inductor.PROMISES}
    return reference.compile(exported, options=kept)


def _keeps_what_it_folded(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    _kept.append([t.clone() for t in _tensors(answer)])
    return answer(*args, **kwargs)


MEM_15_memory = mutant(
    "MEM-15", compile=_folds, apply=around(_keeps_what_it_folded), own_cache="memory"
)
MEM_15_stale = mutant(
    "MEM-15", compile=_folds, apply=on_a_copy(as_it_was), own_cache="stale"
)
