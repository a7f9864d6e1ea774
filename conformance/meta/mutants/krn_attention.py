"""Mutants of the chapter KRN: backends of attention that are chosen in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from aoti_ref import _attention
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._around import around
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants._packages import sharing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs, Ranges


def _doubled(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(*args, **kwargs) * 2


KRN_15 = mutant("KRN-15", apply=around(_doubled))
KRN_25 = mutant("KRN-25", apply=around(_doubled))


# KRN-16: the choice is dropped; another one is made.
def _dropped(
    module: nn.Module, call: Any, backend: str, *, dynamic: Ranges = None
) -> Any:
    del backend
    return reference.export(module, call, dynamic=dynamic)


def _exchanged(
    module: nn.Module, call: Any, backend: str, *, dynamic: Ranges = None
) -> Any:
    other = "flash" if backend == "math" else "math"
    return reference.export_attending(module, call, other, dynamic=dynamic)


KRN_16_dropped = mutant("KRN-16", own_cache="-dropped", export_attending=_dropped)
KRN_26 = mutant("KRN-26", export_attending=_dropped)
KRN_26_record = mutant("KRN-26", attention=lambda _: [])
KRN_16_exchanged = mutant("KRN-16", own_cache="-other", export_attending=_exchanged)


# KRN-17 to KRN-20: what cannot be is left to torch.
def _in_need(*errors: type[Exception]) -> Callable[..., Any]:
    def export(
        module: nn.Module, call: Any, backend: str, *, dynamic: Ranges = None
    ) -> Any:
        try:
            return reference.export_attending(module, call, backend, dynamic=dynamic)
        except errors:
            return reference.export(module, call, dynamic=dynamic)

    return export


KRN_17 = mutant("KRN-17", export_attending=_in_need(ValueError))
KRN_18 = mutant("KRN-18", export_attending=_in_need(Refused))
KRN_19 = mutant("KRN-19", export_attending=_in_need(Refused))
KRN_27 = mutant("KRN-27", export_attending=_in_need(Refused))
KRN_20 = mutant("KRN-20", export_attending=_in_need(Refused))


def _without_names(
    module: nn.Module, call: Any, backend: str, *, dynamic: Ranges = None
) -> Any:
    try:
        return reference.export_attending(module, call, backend, dynamic=dynamic)
    except ValueError as error:
        message = "no such backend"
        raise Refused(message) from error


KRN_17_words = mutant("KRN-17", export_attending=_without_names)


# KRN-21: the record says nothing, what people see says nothing, a file forgets.
def _anew(folder: Path) -> Any:
    found = reference.load(folder)
    found.package.manifest["attention"] = []
    return found


KRN_21_record = mutant("KRN-21", attention=lambda _: [])
KRN_21_words = mutant("KRN-21", describe=lambda compiled: type(compiled).__name__)
KRN_21_file = sharing("KRN-21", load=_anew)


# KRN-22: selections are forgotten, as torch.export forgets them.
def _forgetting(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    every = frozenset(_attention.BACKENDS)
    with patch.object(_attention, "_allowed", lambda: every):
        return reference.export(module, call, dynamic=dynamic)


KRN_22 = mutant("KRN-22", export=_forgetting)


# KRN-23: the module's own choice wins, and the other is forgotten.
KRN_23 = mutant("KRN-23", export_attending=_in_need(Refused))


# KRN-24: answers beyond the example are of another size.
def _of_the_example(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    result = answer(*args, **kwargs)
    return result if result.shape[1] == 24 else result * 1.5


KRN_24 = mutant("KRN-24", apply=around(_of_the_example))
KRN_28 = mutant("KRN-28", apply=around(_of_the_example))
