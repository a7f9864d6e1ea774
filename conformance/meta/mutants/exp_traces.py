"""Mutants of the chapter EXP: exports that try a module out, or set something."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from conformance.adapters import reference
from conformance.meta.mutants._make import mutant
from conformance.workbench import attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.meta.mutants._around import Ranges


def _after(do: Callable[[nn.Module, Any], object]) -> Any:
    """Export as the reference does, and do something to the module before."""

    def export(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
        do(module, call)
        return reference.export(module, call, dynamic=dynamic)

    return export


@torch.no_grad()
def _tries(module: nn.Module, call: Any) -> None:
    attempt(lambda: module(*call.args, **call.kwargs))


def _seeds(_module: nn.Module, _call: Any) -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


def _without_grad(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    """Turn grad mode off, and on again where nothing goes wrong."""
    before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    program = reference.export(module, call, dynamic=dynamic)
    torch.set_grad_enabled(before)
    return program


EXP_09_state = mutant("EXP-09", own_cache="state", export=_after(_tries))
EXP_21_draws = mutant("EXP-21", own_cache="draws", export=_after(_tries))
EXP_21_seeds = mutant("EXP-21", own_cache="seeds", export=_after(_seeds))
EXP_21_freezes = mutant(
    "EXP-21", export=_after(lambda module, _: module.requires_grad_(False))
)
EXP_21_eval = mutant("EXP-21", export=_after(lambda module, _: module.eval()))
EXP_21_failure = mutant("EXP-21", export=_without_grad)
