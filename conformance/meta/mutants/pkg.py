"""Mutants of the chapter PKG."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref import _binding, _host, _internals, _kernels, _manifest
from aoti_ref._errors import BrokenPackage, Fault
from conformance import archives
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._packages import (
    FILE,
    any_library,
    before,
    beside,
    careless,
    instead,
    not_checked,
    or_beside,
    sharing,
    telling,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

_faults = _host.faults
_hold = _manifest.hold


def _but(*names: str) -> Any:
    """Ask of the host what the reference asks, but for some facts."""

    def faults(wanted: Any) -> list[Fault]:
        return [fault for fault in _faults(wanted) if fault.name not in names]

    return careless((_host, "faults", faults))


def _if_torch(passes: Callable[[list[int], list[int]], bool]) -> Any:
    """Load as the reference does, but take a release of torch that passes."""

    def faults(wanted: Any) -> list[Fault]:
        here, made = torch.__version__, wanted["torch"]
        taken = passes(*([int(n) for n in v.split(".")[:2]] for v in (here, made)))
        return [f for f in _faults(wanted) if not (taken and f.name == "torch")]

    return careless((_host, "faults", faults))


# PKG-01 to PKG-03: torch's version, the platform, the instructions are ignored.
PKG_01 = sharing("PKG-01", load=_but("torch"))
PKG_01_newer = sharing("PKG-01", load=_if_torch(lambda here, made: made > here))
PKG_01_older = sharing("PKG-01", load=_if_torch(lambda here, made: made < here))
PKG_01_major = sharing(
    "PKG-01", load=_if_torch(lambda here, made: made[1:] == here[1:])
)
PKG_01_minor = sharing(
    "PKG-01", load=_if_torch(lambda here, made: made[:1] == here[:1])
)
PKG_02 = sharing("PKG-02", load=_but("machine"))
PKG_02_system = sharing("PKG-02", load=_but("platform"))
PKG_03 = sharing("PKG-03", load=_but("cpu"))


# PKG-04: instructions are compared for equality.
def _equal_cpus(wanted: Any) -> list[Fault]:
    same = _host.cpu_features() == wanted["cpu"]
    other = [Fault("host", "cpu", "wants the very same")]
    return _faults(wanted) + ([] if same else other)


PKG_04 = sharing("PKG-04", load=careless((_host, "faults", _equal_cpus)))


# PKG-05: capabilities are compared as text, for equality, or not at all.
def _as_text(made: tuple[int, ...], has: tuple[int, ...]) -> bool:
    return ".".join(map(str, made)) <= ".".join(map(str, has))


PKG_05_text = sharing("PKG-05", load=careless((_host, "fits", _as_text)))
PKG_05_equal = sharing(
    "PKG-05", load=careless((_host, "fits", lambda made, has: made == has))
)
PKG_05_ignored = sharing("PKG-05", load=careless((_host, "gpu_faults", lambda *_: [])))


# PKG-06: the format is not looked at.
def _any_format(data: bytes, origin: str, _form: str = "") -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(data)
    if manifest["digest"] != _manifest._digest(manifest):
        raise BrokenPackage(origin, "its manifest was changed")
    return manifest


PKG_06 = sharing("PKG-06", load=careless((_manifest, "unsealed", _any_format)))

# PKG-07: operators are not looked for, or never found.
PKG_07_ignored = sharing(
    "PKG-07", load=careless((_kernels, "provide", lambda *_: None))
)
PKG_07_never = sharing(
    "PKG-07", load=careless((_internals, "is_registered", lambda _: False))
)

# PKG-08 and PKG-09: what is damaged or missing is replaced by what lies about.
PKG_08 = sharing("PKG-08", load=or_beside)
PKG_09 = sharing("PKG-09", load=or_beside)


# PKG-10: digests are compared for the first member only, not for numbers of the code,
# or sizes alone.
def _first_only(manifest: Any, members: Any, origin: str) -> None:
    first = min(members)
    said = {"members": {first: manifest["members"][first]}}
    _hold(said, {first: members[first]}, origin)


def _but_literals(manifest: Any, members: Any, origin: str) -> None:
    said = manifest["members"]
    numbers = {name for name in members if "/literals/" in name}
    found = {n: {**said[n], "sha256": _manifest.sha256(members[n])} for n in numbers}
    _hold({**manifest, "members": {**said, **found}}, members, origin)


PKG_10_first = sharing("PKG-10", load=careless((_manifest, "hold", _first_only)))
PKG_10_literals = sharing("PKG-10", load=careless((_manifest, "hold", _but_literals)))
PKG_10_sizes = sharing("PKG-10", load=careless((_manifest, "hold", not_checked)))

# PKG-11: members are not held to the manifest.
PKG_11 = sharing(
    "PKG-11",
    load=careless(
        (_manifest, "hold", not_checked),
        (_manifest, "sizes_first", not_checked),
        (_binding, "_runner", any_library),
    ),
)


# PKG-12: the manifest is trusted without a digest of its own, and decides what to do.
def _believes(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    if compiled.manifest["built_with"]["torch"] != torch.__version__:
        answer = module.forward
        module.forward = lambda *args, **kwargs: (answer(*args, **kwargs)[0] + 1,)


PKG_12 = sharing(
    "PKG-12",
    load=careless((_manifest, "unsealed", lambda data, *_: json.loads(data))),
    apply=_believes,
)

# PKG-13: what cannot be read is called outdated, or replaced.
PKG_13_words = sharing("PKG-13", load=instead("an outdated package"))
PKG_13_replaced = sharing("PKG-13", load=or_beside)


# PKG-14: the archive is no .pt2 any more.
def _saves_otherwise(compiled: Any, folder: Path) -> None:
    reference.save(compiled, folder)
    _renamed(folder / FILE, "/data/aotinductor/", "/data/graph/")


def _loads_otherwise(folder: Path) -> Any:
    with tempfile.TemporaryDirectory() as other:
        path = Path(other) / FILE
        path.write_bytes((folder / FILE).read_bytes())
        _renamed(path, "/data/graph/", "/data/aotinductor/")
        return reference.load(Path(other))


def _renamed(path: Path, old: str, new: str) -> None:
    members = archives.entries(path)
    archives.write(path, [m._replace(name=m.name.replace(old, new)) for m in members])


PKG_14 = sharing("PKG-14", save=_saves_otherwise, load=_loads_otherwise)


# PKG-15 and PKG-16: a package is written where it is to be.
def _in_place(compiled: Any, folder: Path) -> None:
    (folder / FILE).write_bytes(compiled.package.archive)


PKG_15 = sharing("PKG-15", save=_in_place)
PKG_16 = sharing("PKG-16", save=_in_place)


# PKG-17: the archive is unpacked before it is checked.
def _unpacks(path: Path) -> None:
    (Path(tempfile.mkdtemp()) / "archive").write_bytes(path.read_bytes())


PKG_17 = sharing("PKG-17", load=before(_unpacks))


# PKG-18: a package is loaded at the first call, when forward is exchanged already.
def _applies_later(folder: Path, module: nn.Module) -> None:
    if not isinstance(folder, Path):
        reference.apply(folder, module)
        return
    eager = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        compiled = reference.load(folder)
        module.forward = eager
        try:
            reference.apply(compiled, module)
            return module.forward(*args, **kwargs)
        finally:
            module.forward = forward

    module.forward = forward


PKG_18 = sharing("PKG-18", load=lambda folder: folder, apply=_applies_later)


# PKG-19: the library is loaded before anybody looks at the package.
def _loads_first(path: Path) -> None:
    for member in archives.entries(path):
        if member.data[:4] == b"\x7fELF":
            file = Path(tempfile.mkdtemp()) / "graph.wrapper.so"
            file.write_bytes(member.data)
            ctypes.CDLL(str(file))


PKG_19 = sharing("PKG-19", load=before(_loads_first))

# PKG-20: nobody learns which package.
PKG_20 = sharing("PKG-20", load=instead("a package is broken"))

# PKG-21: what a debugger needs goes with it.
PKG_21 = sharing("PKG-21", save=beside("symbols", lambda: os.urandom(4 << 20)))


def _one_class_is_large(compiled: Any, folder: Path) -> None:
    """Keep what a debugger needs of one class of blocks, where the other has none."""
    reference.save(compiled, folder)
    if len(compiled.regions) > 1:
        (folder / "symbols").write_bytes(os.urandom(1_100_000))


PKG_21_one = sharing("PKG-21", save=_one_class_is_large)

# PKG-22: the package says when it was saved, or when it was compiled.
PKG_22_saved = sharing(
    "PKG-22", save=beside("saved", lambda: str(time.time_ns()).encode())
)
PKG_22_compiled = sharing("PKG-22", compile=telling(lambda: str(time.time_ns())))

# PKG-23: loading needs what made the model, or the adapter does as it is imported.
PKG_23 = sharing("PKG-23", load=before(lambda _: importlib.import_module("diffusers")))


class _AtItsTop(dict[str, Any]):
    """Verbs of an adapter that imports diffusers before anybody asks for one."""

    def __contains__(self, name: object) -> bool:
        importlib.import_module("diffusers")
        return super().__contains__(name)


def _asks_in_two_ways(_path: Path) -> None:
    """Ask what the processor can do: a compiler, or a library where there is none."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception:  # noqa: BLE001  # as whoever writes such a thing would
        importlib.import_module("psutil")


PKG_23_either = sharing("PKG-23", load=before(_asks_in_two_ways))
PKG_23_top = replace(sharing("PKG-23"), verbs=_AtItsTop(sharing("PKG-23").verbs))


# PKG-24: the root folder has one name.
def _wants_root(path: Path) -> None:
    roots = {member.name.partition("/")[0] for member in archives.entries(path)}
    if roots != {"archive"}:
        raise Refused(f"{path} has the roots {roots}")


PKG_24 = sharing("PKG-24", load=before(_wants_root))
