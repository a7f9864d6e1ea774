"""Mutants of the chapter HUB: the cache, and a Hub that is away or breaks off."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._hub import (
    first,
    head,
    in_other_words,
    refusing_for_ever,
)
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from torch import nn

HUB_14 = mutant("HUB-14", fetch=first(head))
HUB_15_asks = mutant("HUB-15", fetch=first(head))
HUB_15_nameless = mutant("HUB-15", fetch=in_other_words)
HUB_16 = mutant("HUB-16", fetch=first(head))


def _notes_when(*_facts: Any) -> None:
    cache = Path(os.environ["HF_HUB_CACHE"])
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "last-use").touch()


HUB_17_writes = mutant("HUB-17", fetch=first(_notes_when))
HUB_17_nameless = mutant("HUB-17", fetch=in_other_words)
HUB_18_nameless = mutant("HUB-18", fetch=in_other_words)
HUB_18_for_ever = mutant("HUB-18", fetch=refusing_for_ever())
HUB_19_nameless = mutant("HUB-19", fetch=in_other_words)
HUB_19_for_ever = mutant("HUB-19", fetch=refusing_for_ever())


def _later(repo_id: str, **options: Any) -> Any:
    return partial(reference.fetch, repo_id, **options)


def _fetches(compiled: Any, module: nn.Module) -> None:
    def forward(**kwargs: Any) -> Any:
        del module.forward
        reference.apply(compiled(), module)
        return module(**kwargs)

    module.forward = forward


HUB_21 = mutant("HUB-21", fetch=_later, apply=_fetches)


def _half(repo_id: str, **options: Any) -> Any:
    """Take what came for the whole."""
    try:
        return reference.fetch(repo_id, **options)
    except Refused:
        return None


def _whatever(compiled: Any, module: nn.Module) -> None:
    if compiled is not None:
        reference.apply(compiled, module)


HUB_19_half = mutant("HUB-19", fetch=_half, apply=_whatever)
HUB_18_half = mutant("HUB-18", fetch=_half, apply=_whatever)
