"""Mutants of the chapter CMP that break what a saved package promises."""

from __future__ import annotations

import functools
import io
import os
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
import torch._inductor.config

from aoti_ref import _binding, _compile, _elf, _inductor
from conformance.adapters import reference
from conformance.meta.mutants._applied import on_a_copy
from conformance.meta.mutants._around import around
from conformance.meta.mutants._make import Mutant, mutant
from conformance.meta.mutants._packages import any_library

if TYPE_CHECKING:
    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs


Options = dict[str, Any] | None


def _sharing(made: Mutant) -> Mutant:
    """Let a mutant use the reference's packages: what it saves, it loads alike."""
    return replace(made, info=reference.info)


# CMP-02: its own options win over the caller's.
def _overrides(exported: Any, *, options: Options = None) -> Any:
    return reference.compile(
        exported, options={**(options or {}), **_inductor.PROMISES}
    )


CMP_02 = mutant("CMP-02", compile=_overrides)


# CMP-25: products are tuned with weights of their own; weights are read once.
def _packs(exported: Any, *, options: Options = None) -> Any:
    kept = {n: v for n, v in _inductor.PROMISES.items() if n != "cpp.weight_prepack"}
    # On a busy machine libraries may be quicker, and pack nothing.
    chosen = {**(options or {}), "max_autotune_gemm_backends": "CPP"}
    with patch.object(_inductor, "PROMISES", kept):
        return reference.compile(exported, options=chosen)


def _binds_any_library(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    with patch.object(_binding, "_runner", any_library):
        return answer(*args, **kwargs)


CMP_25_packs = mutant("CMP-25", compile=_packs, apply=around(_binds_any_library))
CMP_25_stale = mutant("CMP-25", apply=on_a_copy(lambda _: None))


# CMP-12: packages are loaded, or saved, once for every path.
@functools.cache
def _loads_once(folder: Path) -> Any:
    return reference.load(folder)


def _saves_once(compiled: Any, folder: Path) -> None:
    if not any(folder.iterdir()):
        reference.save(compiled, folder)


CMP_12 = _sharing(mutant("CMP-12", load=_loads_once))
CMP_12_over = _sharing(mutant("CMP-12", save=_saves_once))


# CMP-13: the graph stays in the compiler's cache, and the package points there.
def _saves_pointer(compiled: Any, folder: Path) -> None:
    cache = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    cache.mkdir(parents=True, exist_ok=True)
    kept = Path(tempfile.mkdtemp(dir=cache))
    reference.save(compiled, kept)
    (folder / "pointer").write_text(str(kept))


def _follows_pointer(folder: Path) -> Any:
    return reference.load(Path((folder / "pointer").read_text()))


CMP_13 = mutant("CMP-13", save=_saves_pointer, load=_follows_pointer)


# CMP-15: libraries stay as the linker made them.
def _keeps_stack(exported: Any, *, options: Options = None) -> Any:
    kept = patch.object(_compile, "clear_executable_stack", lambda _: False)
    with kept, _any_stack():
        return reference.compile(exported, options=options)


def _loads_any_stack(folder: Path) -> Any:
    with _any_stack():
        return reference.load(folder)


def _any_stack() -> Any:
    return patch.object(_elf, "wants_executable_stack", lambda _: False)


CMP_15 = mutant("CMP-15", compile=_keeps_stack, load=_loads_any_stack)


# CMP-16: small weights travel with the package, in an archive beside it.
class _Weighty:
    def __init__(self, compiled: Any, weights: dict[str, torch.Tensor]) -> None:
        self.compiled = compiled
        self.weights = weights

    def save(self, path: Path) -> None:
        self.compiled.save(path)
        buffer = io.BytesIO()
        torch.save(self.weights, buffer)
        with zipfile.ZipFile(
            path.with_name("weights.zip"), "w", zipfile.ZIP_DEFLATED
        ) as file:
            file.writestr("weights.pt", buffer.getvalue())


def _takes_weights(exported: Any, *, options: Options = None) -> Any:
    small = {n: t for n, t in exported.state_dict.items() if t.nbytes < 64}
    return _Weighty(reference.compile(exported, options=options), small)


def _loads_weights(folder: Path) -> Any:
    with zipfile.ZipFile(folder / "weights.zip") as file:
        weights = torch.load(io.BytesIO(file.read("weights.pt")), weights_only=True)
    return _Weighty(reference.load(folder), weights)


def _applies_weighty(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled.compiled, module)


CMP_16 = mutant(
    "CMP-16", compile=_takes_weights, load=_loads_weights, apply=_applies_weighty
)


# CMP-22: the storage behind the constants is written out as well.
def _pads(compiled: Any, folder: Path) -> None:
    reference.save(compiled, folder)
    (folder / "storage.bin").write_bytes(bytes(16 << 20))


CMP_22 = _sharing(mutant("CMP-22", save=_pads))


# CMP-24: the files of a compile have one name for all processes.
def _in_one_place(exported: Any, *, options: Options = None) -> Any:
    """Stumble over the file that another process is writing meanwhile."""
    path = Path(tempfile.gettempdir()) / f"all_children_of_{os.getppid()}.pt2"
    with path.open("x"):
        try:
            return reference.compile(exported, options=options)
        finally:
            path.unlink()


CMP_24 = mutant("CMP-24", compile=_in_one_place)
