"""Adapter: Hugging Face's `spaces`, the layer that ZeroGPU runs.

`compile` and `apply` take its in-memory path; `save` and `load` its package folder.
Exporting is torch's own, as in its published recipe.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import torch

from conformance.adapter import Dynamic, Info, Refused
from conformance.adapters._ranges import table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

try:
    _version = version("spaces")
except PackageNotFoundError as _missing:
    _message = (
        "the package `spaces` is not installed (pip install 'aoti-conformance[spaces]')"
    )
    raise ImportError(_message) from _missing

# At import spaces asks which CUDA torch was built for and keeps torch's initialiser,
# and warns where it finds no driver. A CPU build of torch has neither of the two.
with (
    warnings.catch_warnings(),
    patch.object(torch.version, "cuda", torch.version.cuda or "13.0"),
    patch.object(
        torch._C, "_cuda_init", getattr(torch._C, "_cuda_init", None), create=True
    ),
):
    warnings.simplefilter("ignore")
    from spaces.zero.torch import aoti

info = Info(
    name="spaces",
    version=_version,
    url="https://huggingface.co/docs/hub/spaces-zerogpu",
    issues="https://huggingface.co/spaces/zero-gpu-explorers/README/discussions",
    packages=("spaces",),
    cacheable=True,
    bakes_weights=True,
)
capabilities = frozenset({"dynamic", "package"})


class InMemory(NamedTuple):
    """What `aoti_compile` made: an archive in memory, and the weights beside it."""

    model: Any

    def apply_to(self, module: nn.Module) -> None:
        aoti.aoti_apply(self.model, module)


class Folder(NamedTuple):
    """A folder as `aoti_compile_and_save` lays it out."""

    path: Path

    def apply_to(self, module: nn.Module) -> None:
        aoti.aoti_load_from_package_dir(module, self.path)


@contextmanager
def _refusals() -> Iterator[None]:
    """Take torch's and spaces' errors for refusals: spaces has none of its own."""
    try:
        yield
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {error}") from error


def capture(module: nn.Module, method: str = "forward") -> Any:
    return aoti.aoti_capture(module, method)


@_refusals()
def export(module: nn.Module, call: Any, *, dynamic: Dynamic | None = None) -> Any:
    return torch.export.export(
        module,
        call.args,
        dict(call.kwargs),
        dynamic_shapes=table(module, call, dynamic),
    )


@_refusals()
def compile(exported: Any, *, options: dict[str, Any] | None = None) -> InMemory:
    return InMemory(aoti.aoti_compile(exported, options))


def apply(compiled: InMemory | Folder, module: nn.Module) -> None:
    compiled.apply_to(module)


def save(compiled: InMemory, folder: Path) -> None:
    """Write what `aoti_compile_and_save` writes, without compiling once more."""
    package = folder / "root" / aoti.PACKAGE_FILENAME
    package.parent.mkdir()
    package.write_bytes(compiled.model.archive_file.getvalue())


def load(folder: Path) -> Folder:
    return Folder(folder)


def freeze(compiled: InMemory, folder: Path) -> None:
    """Keep an in-memory model for the suite's cache, with its weights."""
    (folder / "archive.pt2").write_bytes(compiled.model.archive_file.getvalue())
    torch.save(dict(compiled.model.weights.constants_map), folder / "weights.pt")


def thaw(folder: Path) -> InMemory:
    """Make the in-memory model again that `freeze` kept."""
    archive = BytesIO((folder / "archive.pt2").read_bytes())
    weights = torch.load(folder / "weights.pt", weights_only=True)
    return InMemory(aoti.ZeroGPUCompiledModel(archive, aoti.ZeroGPUWeights(weights)))
