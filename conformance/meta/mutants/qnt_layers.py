"""Mutants of the chapter QNT: layers that are passed over, and what is not a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

from torch import nn

from conformance.adapters import reference
from conformance.meta.mutants._blocks import stale, then
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Iterator


# QNT-02: layers of a class of their own are passed over, and nobody is told.
def _by_class(module: nn.Module, scheme: str) -> dict[str, str]:
    named = module.named_modules

    def known() -> Iterator[tuple[str, nn.Module]]:
        return (
            (name, part)
            for name, part in named()
            if type(part) is nn.Linear or not isinstance(part, nn.Linear)
        )

    with patch.object(module, "named_modules", known):
        return reference.quantize(module, scheme)


QNT_02_classes = mutant("QNT-02", quantize=_by_class)


# QNT-02: a module with one quantised layer is taken for done.
def _done(module: nn.Module, scheme: str) -> dict[str, str]:
    layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
    if any(type(layer.weight) is not nn.Parameter for layer in layers):
        return {}
    return reference.quantize(module, scheme)


QNT_02_done = mutant("QNT-02", quantize=_done)


# QNT-04: the module is set to eval mode; its biases are made anew.
def _in_eval_mode(module: nn.Module, scheme: str) -> dict[str, str]:
    return reference.quantize(module.eval(), scheme)


def _with_new_biases(module: nn.Module, scheme: str) -> dict[str, str]:
    left = reference.quantize(module, scheme)
    for part in module.modules():
        if isinstance(part, nn.Linear) and part.bias is not None:
            part.bias = nn.Parameter(part.bias.clone(), requires_grad=False)
    return left


QNT_04_modes = mutant("QNT-04", quantize=_in_eval_mode)
QNT_04_biases = mutant("QNT-04", quantize=_with_new_biases)


# QNT-14: what one block holds is copied when it is applied to.
QNT_14_stale = mutant("QNT-14", apply=then(("blocks.1",), stale))
