"""Mutants of the chapter MEM: what is kept of calls that were refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conformance.meta.mutants._around import around
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from conformance.meta.mutants._around import Answer, Args, Kwargs

_noted: list[Any] = []


# MEM-09: refused calls are kept, for whoever may want to look at them.
def _notes(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except Exception:
        _noted.append((args, kwargs))
        raise


MEM_09_refused = mutant("MEM-09", apply=around(_notes))
