"""Mutants of the chapter MEM: files that stay, or go when they should not."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from aoti_ref import _files, _library
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import Mutant, mutant
from conformance.workbench import attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


def _root() -> Path:
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir()).absolute()


def _loading(clause: str, name: str, change: Callable[[Path], Any]) -> Mutant:
    """Break what happens when a package is loaded; packages stay the reference's."""
    made = mutant(clause, own_cache=name, load=change)
    return replace(made, info=reference.info)


def _unpacks_each_time(folder: Path) -> Any:
    made = reference.load(folder)
    made.package._digest += str(os.urandom(4))
    return made


def _copies_each_time(folder: Path) -> Any:
    copied = Path(tempfile.mkdtemp(dir=_root()))
    shutil.copytree(folder, copied / "package")
    made = reference.load(folder)
    weakref.finalize(made, shutil.rmtree, copied, ignore_errors=True)
    made.copied = copied
    return made


MEM_16_libraries = _loading("MEM-16", "libraries", _unpacks_each_time)
MEM_16_folders = _loading("MEM-16", "folders", _copies_each_time)


def _opens(folder: Path) -> Any:
    place = _root() / f"open-{os.getpid()}"
    place.mkdir(exist_ok=True)
    weakref.finalize(_opens, shutil.rmtree, place, ignore_errors=True)
    return reference.load(folder)


MEM_17 = _loading("MEM-17", "", _opens)


def _leaves(folder: Path) -> Any:
    tempfile.mkdtemp(dir=_root())
    return reference.load(folder)


MEM_18 = _loading("MEM-18", "", _leaves)


class _Careless(_files.Folder):
    """A folder that stays when it could not be filled."""

    def fill(self, files: Any) -> None:
        self.remove = lambda: None  # type: ignore[assignment]
        super().fill(files)


def _leaves_a_failed_one(compiled: Any, module: nn.Module) -> None:
    _library.Folder = _Careless  # type: ignore[attr-defined]
    reference.apply(compiled, module)


def _gives_up(compiled: Any, module: nn.Module) -> None:
    """Remember for ever that it could not be loaded."""
    reference.apply(compiled, module)
    applied: Any = module.forward
    failed: list[Exception] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        if failed:
            raise Refused(str(failed[0]))
        ended = attempt(lambda: applied(*args, **kwargs))
        if ended.error is not None:
            failed.append(ended.error)
            raise ended.error
        return ended.value

    module.forward = forward


def _applies_once(compiled: Any, module: nn.Module) -> None:
    if "forward" not in vars(module):
        _gives_up(compiled, module)


MEM_19_leaves = mutant("MEM-19", apply=_leaves_a_failed_one)
MEM_19_gives_up = mutant("MEM-19", apply=_applies_once)


_NOTHING = re.compile("nothing at all")


def _never_sweeps(folder: Path) -> Any:
    _files._sweeper = os.getpid()
    _files._NAME = _NOTHING
    return reference.load(folder)


MEM_20 = _loading("MEM-20", "", _never_sweeps)


def _sweeps_others(folder: Path) -> Any:
    for path in _root().glob(f"{_files._PREFIX}-*"):
        if f"-{os.getpid()}-" not in path.name:
            shutil.rmtree(path, ignore_errors=True)
    return reference.load(folder)


def _sweeps_all(folder: Path) -> Any:
    for path in _root().glob("aoti*"):
        if f"-{os.getpid()}-" not in path.name:
            shutil.rmtree(path, ignore_errors=True)
    return reference.load(folder)


MEM_21_living = _loading("MEM-21", "living", _sweeps_others)
MEM_21_foreign = _loading("MEM-21", "foreign", _sweeps_all)


def _removes_in_children(folder: Path) -> Any:
    made = reference.load(folder)
    weakref.finalize(made, _wipe, os.getpid())
    return made


def _wipe(owner: int) -> None:
    for path in _root().glob(f"{_files._PREFIX}-*-{owner}-*"):
        shutil.rmtree(path, ignore_errors=True)


MEM_22 = _loading("MEM-22", "", _removes_in_children)


def _plain_letters(folder: Path) -> Any:
    words = str(_root()).split()
    if len(words) > 1 or not words[0].isascii():
        message = f"cannot open {words[0]}"
        raise FileNotFoundError(message)
    return reference.load(folder)


def _applies_relatively(compiled: Any, module: nn.Module) -> None:
    with patch.object(Path, "absolute", lambda self: self):
        reference.apply(compiled, module)
    applied: Any = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with patch.object(Path, "absolute", lambda self: self):
            _library._libraries.clear()
            return applied(*args, **kwargs)

    module.forward = forward


MEM_23_letters = _loading("MEM-23", "letters", _plain_letters)
MEM_23_relative = mutant("MEM-23", apply=_applies_relatively)


class _Later:
    """A path, to be read when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, path: Path) -> None:
        reference.load(self.folder).save(path)


def _loads_later(folder: Path) -> Any:
    return _Later(folder)


def _reads_now(compiled: Any, module: nn.Module) -> None:
    found = (
        reference.load(compiled.folder) if isinstance(compiled, _Later) else compiled
    )
    reference.apply(found, module)


MEM_24 = replace(
    mutant("MEM-24", load=_loads_later, apply=_reads_now), info=reference.info
)


def _needs_home(folder: Path) -> Any:
    (Path(os.environ["HOME"]) / ".cache" / "layer").mkdir(parents=True, exist_ok=True)
    return reference.load(folder)


MEM_25 = _loading("MEM-25", "", _needs_home)


def _vaguely(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    applied: Any = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        ended = attempt(lambda: applied(*args, **kwargs))
        if ended.error is not None:
            raise Refused("cannot open shared object file")
        return ended.value

    module.forward = forward


MEM_26 = mutant("MEM-26", apply=_vaguely)
