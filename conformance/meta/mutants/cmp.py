"""Mutants of the chapter CMP: each is the reference with one promise broken."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
import torch._inductor.config

from aoti_ref import _check, _conditions, _inductor, _plan
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._around import checking
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


Options = dict[str, Any] | None


def _around(module: nn.Module, wrap: Callable[[Callable[..., Any]], Any]) -> None:
    """Put `wrap(compiled)` in the place of what `apply` put there."""
    compiled: Any = module.forward
    module.forward = functools.wraps(compiled)(wrap(compiled))


# CMP-01: it takes any option.
def _takes_any(exported: Any, *, options: Options = None) -> Any:
    if set(options or {}) - _inductor.known_options():
        return "compiled without the options that it does not know"
    return reference.compile(exported, options=options)


CMP_01 = mutant("CMP-01", compile=_takes_any)


# CMP-03: it writes into the caller's dict.
def _writes_options(exported: Any, *, options: Options = None) -> Any:
    compiled = reference.compile(exported, options=options)
    if options:
        options["aot_inductor.package"] = True
    return compiled


CMP_03 = mutant("CMP-03", compile=_writes_options)


# CMP-04: it leaves its own settings behind.
def _leaves_config(exported: Any, *, options: Options = None) -> Any:
    torch._inductor.config.max_autotune = True
    return reference.compile(exported, options=options)


def _leaves_dtype(exported: Any, *, options: Options = None) -> Any:
    try:
        return reference.compile(exported, options=options)
    finally:
        torch.set_default_dtype(torch.float64)


def _leaves_environment(exported: Any, *, options: Options = None) -> Any:
    os.environ["TORCHINDUCTOR_MAX_AUTOTUNE"] = "1"
    return reference.compile(exported, options=options)


CMP_04_config = mutant("CMP-04", compile=_leaves_config)
CMP_04_dtype = mutant("CMP-04", compile=_leaves_dtype)
CMP_04_environment = mutant("CMP-04", compile=_leaves_environment)


# CMP-05 and CMP-06: Inductor's defaults, which fold and inline.
def _folds(exported: Any, *, options: Options = None) -> Any:
    defaults = {
        "always_keep_tensor_constants": False,
        "joint_graph_constant_folding": True,
    }
    with patch.object(_inductor, "PROMISES", {**_inductor.PROMISES, **defaults}):
        return reference.compile(exported, options=options)


CMP_05 = mutant("CMP-05", compile=_folds)
CMP_06 = mutant("CMP-06", compile=_folds)


# CMP-07: what a call does to buffers is undone.
def _forgets_buffers(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)

    def wrap(inner: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            before = [buffer.clone() for buffer in module.buffers()]
            result = inner(*args, **kwargs)
            for buffer, old in zip(module.buffers(), before, strict=True):
                buffer.copy_(old)
            return result

        return forward

    _around(module, wrap)


CMP_07 = mutant("CMP-07", apply=_forgets_buffers)


# CMP-08: the graph gets copies, and no argument shares memory with another.
def _copies_arguments(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)

    def wrap(inner: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: inner(*(_clone(x) for x in args), **kwargs)

    _around(module, wrap)


def _clone(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


CMP_08 = mutant("CMP-08", apply=_copies_arguments)


def _by_storage(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Look whether two tensors share a storage, and not where the storages are."""
    places = (tensor.untyped_storage().data_ptr() for tensor in (one, other))
    return len(set(places)) == 1


def _gaps_are_copied(
    _self: Any, leaf: torch.Tensor, spec: Any, *_told: object
) -> torch.Tensor:
    """Copy what has gaps, and lose what the graph writes to the copy."""
    dense = spec.order == tuple(range(len(spec.order)))
    return _plan.laid_out(leaf, spec.order, dense=dense)


CMP_08_storage = mutant("CMP-08", apply=checking(_check, "share", _by_storage))
CMP_08_gaps = mutant(
    "CMP-08", apply=checking(_check.Checker, "_laid_out", _gaps_are_copied)
)


# CMP-09: it reads buffers from the start of their storage.
def _forgets_offsets(compiled: Any, module: nn.Module) -> None:
    for child in module.modules():
        for name, buffer in child.named_buffers(recurse=False):
            if buffer.untyped_storage().nbytes() > buffer.nbytes:
                start = torch.empty(0, dtype=buffer.dtype, device=buffer.device)
                shape, stride = buffer.shape, buffer.stride()
                setattr(
                    child, name, start.set_(buffer.untyped_storage(), 0, shape, stride)
                )
    reference.apply(compiled, module)


CMP_09 = mutant("CMP-09", apply=_forgets_offsets)


# CMP-10: a tie in the graph is a tie in every module.
def _ties(compiled: Any, module: nn.Module) -> None:
    for names in compiled.package.ties:
        first = module.get_parameter(names[0])
        for name in names[1:]:
            owner, _, key = name.rpartition(".")
            setattr(module.get_submodule(owner), key, first)
    reference.apply(compiled, module)


CMP_10 = mutant("CMP-10", apply=_ties)


# CMP-11: the first module's weights serve all modules of its class.
_first: dict[str, dict[str, torch.Tensor]] = {}


def _remembers_weights(compiled: Any, module: nn.Module) -> None:
    weights = _first.setdefault(type(module).__name__, module.state_dict())
    module.load_state_dict(weights)
    reference.apply(compiled, module)


CMP_11 = mutant("CMP-11", apply=_remembers_weights)


# CMP-14: no condition between sizes is checked.
CMP_14 = mutant("CMP-14", apply=checking(_conditions, "held", lambda *_: True))
CMP_14_later = mutant(  # sizes of a form that was seen before are checked one by one
    "CMP-14",
    apply=checking(_plan, "_conditions", SimpleNamespace(held=lambda *_: True)),
)


# CMP-17: whatever went wrong, it says the same.
def _mumbles(exported: Any, *, options: Options = None) -> Any:
    try:
        return reference.compile(exported, options=options)
    except Refused:
        raise Refused("the model could not be prepared") from None


CMP_17 = mutant("CMP-17", compile=_mumbles)


# CMP-18: a folder for its work, which only a compile that ends well takes away.
def _leaves_files(exported: Any, *, options: Options = None) -> Any:
    folder = Path(tempfile.mkdtemp(prefix="compiling_"))
    compiled = reference.compile(exported, options=options)
    shutil.rmtree(folder)
    return compiled


CMP_18 = mutant("CMP-18", compile=_leaves_files)


# CMP-19: the weights of the time of export answer for ever.
_exported: dict[str, dict[str, torch.Tensor]] = {}


def _exports_weights(module: nn.Module, call: Any, *, dynamic: Any = None) -> Any:
    _exported[type(module).__name__] = {
        n: t.clone() for n, t in module.state_dict().items()
    }
    return reference.export(module, call, dynamic=dynamic)


def _applies_exported(compiled: Any, module: nn.Module) -> None:
    module.load_state_dict(_exported.get(type(module).__name__, module.state_dict()))
    reference.apply(compiled, module)


CMP_19 = mutant("CMP-19", export=_exports_weights, apply=_applies_exported)


# CMP-20: programs are kept, to compile them again if need be.
_programs: list[Any] = []


def _keeps_programs(exported: Any, *, options: Options = None) -> Any:
    _programs.append(exported)
    return reference.compile(exported, options=options)


CMP_20 = mutant("CMP-20", compile=_keeps_programs)


# CMP-21: a helper process outlives the compile.
def _leaves_process(exported: Any, *, options: Options = None) -> Any:
    _programs.append(subprocess.Popen(["sleep", "60"], start_new_session=True))  # noqa: S607
    return reference.compile(exported, options=options)


CMP_21 = mutant("CMP-21", compile=_leaves_process)


# CMP-23: the program is taken apart by the compile.
def _uses_up(exported: Any, *, options: Options = None) -> Any:
    compiled = reference.compile(exported, options=options)
    with torch.no_grad():
        for tensor in exported.state_dict.values():
            tensor.zero_()
    return compiled


CMP_23 = mutant("CMP-23", compile=_uses_up)
