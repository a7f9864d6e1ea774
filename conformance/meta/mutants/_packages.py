"""Ways to load a package: with less care than the reference, or with other members."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from aoti_ref import _host, _inductor
from conformance import archives
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import Mutant, mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import torch

    from conformance.archives import Entry

FILE = "package.pt2"


def sharing(clause: str, **verbs: Any) -> Mutant:
    """Make a mutant that has the reference's packages in the suite's cache."""
    kept: dict[str, Any] = {"freeze": reference.save, "thaw": reference.load}
    return replace(mutant(clause, **kept, **verbs), info=reference.info)


def careless(*changes: tuple[Any, str, Any]) -> Any:
    """Load as the reference does, with parts of it exchanged for the process's life."""

    def load(folder: Path) -> Any:
        for owner, name, value in changes:
            setattr(owner, name, value)
        return reference.load(folder)

    return load


def any_library(package: Any, device: torch.device, read: Any) -> Any:
    """Make a runner, for `aoti_ref._binding`: constants of its own stay as they are."""
    runner = package.runner(device)
    names = runner.get_constant_names_to_original_fqns().items()
    known = {name: _inductor.borrow(read[fqn]) for name, fqn in names if fqn in read}
    runner.update_constant_buffer(known, False, False, True)
    return runner


def before(look: Callable[[Path], object]) -> Any:
    """Have a look at the file before the reference checks it."""

    def load(folder: Path) -> Any:
        look(folder / FILE)
        return reference.load(folder)

    return load


def instead(words: str) -> Any:
    """Load as the reference does, and refuse in other words."""

    def load(folder: Path) -> Any:
        try:
            return reference.load(folder)
        except (Refused, OSError) as error:
            raise Refused(words) from error

    return load


def or_beside(folder: Path) -> Any:
    """Load a package, or the one beside it that is good."""
    try:
        return reference.load(folder)
    except (Refused, OSError):
        return reference.load(folder.with_name("package"))


def passing_over(keep: Callable[[list[Entry]], Iterable[Entry]]) -> Any:
    """Load what is left of an archive when strange members are passed over."""

    def load(folder: Path) -> Any:
        kept = list(keep(archives.entries(folder / FILE)))
        with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
            archives.write(Path(other) / FILE, kept)
            return reference.load(Path(other))

    return load


def listed(members: list[Entry]) -> list[Entry]:
    """Give the members that the manifest lists, and the manifest."""
    manifest = next(m for m in members if m.name.endswith("aoti_ref/manifest.json"))
    known = json.loads(manifest.data)["members"]
    return [m for m in members if m is manifest or m.name.partition("/")[2] in known]


def beside(name: str, make: Callable[[], bytes]) -> Any:
    """Save as the reference does, with another file beside the package."""

    def save(compiled: Any, folder: Path) -> None:
        reference.save(compiled, folder)
        (folder / name).write_bytes(make())

    return save


def telling(make: Callable[[], str]) -> Any:
    """Compile as the reference does, and tell more of the process that does it."""

    def compile_(exported: Any, *, options: dict[str, Any] | None = None) -> Any:
        known = _host.built_with()
        told = {**known, "told": make()}
        with patch.object(_host, "built_with", lambda: told):
            return reference.compile(exported, options=options)

    return compile_


def not_checked(*_args: Any, **_kwargs: Any) -> Any:
    """Check nothing."""
    return lambda *_: None
