"""Mutants of the chapters EXP, KRN and VAR: what is amiss in a part only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from aoti_ref import _export
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

_refuse_modes = _export._refuse_modes


def _of_the_whole(module: nn.Module, name: str) -> None:
    if module.training:
        _refuse_modes(module, name)


def _asks_the_whole(*args: Any, **options: Any) -> Any:
    """Look at the mode of the module, and not at those of its parts."""
    with patch.object(_export, "_refuse_modes", _of_the_whole):
        return reference.export(*args, **options)


EXP_12_part = mutant("EXP-12", export=_asks_the_whole)


def _looks_inside(repo_id: str, *, trust: Any = (), **options: Any) -> Any:
    """Look for the publisher in what is trusted, letter by letter."""
    found = any(part in trust for part in (repo_id, repo_id.partition("/")[0]))
    return reference.use_kernel(repo_id, trust=[repo_id] if found else [], **options)


def _by_its_beginning(
    repo_id: str, *, revision: str | None = None, **options: Any
) -> Any:
    found = re.match("[0-9a-f]{40}", revision or "")
    commit = found.group() if found else revision
    return reference.use_kernel(repo_id, revision=commit, **options)


KRN_09_alone = mutant("KRN-09", use_kernel=_looks_inside)
KRN_09_beginning = mutant("KRN-09", use_kernel=_by_its_beginning)


def _goes_on_with_two(module: nn.Module, calls: Sequence[Any], **options: Any) -> Any:
    """Leave a call out that cannot be compiled, if two others are there."""
    try:
        return reference.compile_variants(module, calls, **options)
    except Refused:
        for n in range(len(calls) if len(calls) > 2 else 0):
            rest = [*calls[:n], *calls[n + 1 :]]
            try:
                return reference.compile_variants(module, rest, **options)
            except Refused:
                continue
        raise


VAR_16_two = mutant("VAR-16", compile_variants=_goes_on_with_two)
