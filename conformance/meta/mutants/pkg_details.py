"""Mutants of the chapter PKG: the first operator, the real path, tidy names only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from conformance import archives
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._packages import FILE, sharing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _asking_for(choose: Callable[[list[str]], list[str]]) -> Any:
    """Load, and ask for some of the operators only."""

    def load(folder: Path) -> Any:
        compiled = reference.load(folder)
        for model in compiled.models:
            model.package.ops = choose(model.package.ops)
        return compiled

    return load


def _unless_one_is_there(ops: list[str]) -> list[str]:
    names = [op.partition("::") for op in ops]
    there = [hasattr(getattr(torch.ops, space), name) for space, _, name in names]
    return [] if any(there) else ops


def _of_unknown_libraries(ops: list[str]) -> list[str]:
    return [op for op in ops if not op.startswith("aten::")]


PKG_07_first = sharing("PKG-07", load=_asking_for(lambda ops: ops[:1]))
PKG_07_last = sharing("PKG-07", load=_asking_for(lambda ops: ops[-1:]))
PKG_07_any = sharing("PKG-07", load=_asking_for(_unless_one_is_there))
PKG_07_library = sharing("PKG-07", load=_asking_for(_of_unknown_libraries))


def _by_its_real_path(folder: Path) -> Any:
    return reference.load(folder.resolve())


def _with_tidy_names(folder: Path) -> Any:
    roots = {
        entry.name.partition("/")[0]
        for path in archives.find(folder)
        for entry in archives.entries(path)
    }
    if not all(root.isidentifier() for root in roots):
        message = f"{folder / FILE} has a root folder with a strange name"
        raise Refused(message)
    return reference.load(folder)


PKG_20_real = sharing("PKG-20", load=_by_its_real_path)
PKG_24_tidy = sharing("PKG-24", load=_with_tidy_names)
