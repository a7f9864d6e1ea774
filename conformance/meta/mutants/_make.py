"""Make a mutant: the reference with some of its verbs exchanged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from conformance.adapter import Variant
from conformance.adapters import reference

# Verbs that decide what a package holds: a mutant of them needs its own cache.
_COMPILING = {
    "export",
    "export_attending",
    "compile",
    "compile_regions",
    "compile_variants",
    "save",
    "load",
}


@dataclass(frozen=True)
class Mutant(Variant):
    """A broken implementation, and the clause that must find it out."""

    clause: str = ""


def mutant(clause: str, *, own_cache: str = "", **verbs: Any) -> Mutant:
    """Break the reference on purpose.

    Args:
        clause: The clause that it must fail.
        own_cache: A name that keeps its packages apart, for mutants that
            share a clause and compile differently.
        verbs: The verbs that it does otherwise.
    """
    compiles = bool(_COMPILING & verbs.keys())
    variant = f"{clause}{own_cache}" if compiles else reference.info.variant
    return Mutant(
        base=reference,
        info=replace(reference.info, variant=variant),
        capabilities=reference.capabilities,
        verbs=verbs,
        clause=clause,
    )
