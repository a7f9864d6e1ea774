"""Adapter: Hugging Face's `spaces`, the layer that ZeroGPU runs.

`compile` and `apply` take its in-memory path; `save` and `load` its package folder.
Exporting is torch's own, as in its published recipe. Of repeated blocks the first of
each class is compiled, and `aoti_blocks_load` gives all others the same graph.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import huggingface_hub
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from conformance.adapter import Dynamic, Info, Refused, Unsupported
from conformance.adapters import _labels
from conformance.adapters._torchao import torchao_config
from conformance.ranges import dynamic_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

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

capabilities = frozenset({"dynamic", "fp8", "hub", "labels", "package", "regional"})

relabel = _labels.relabel


_BLOCKS = "blocks"


class InMemory(NamedTuple):
    """What `aoti_compile` made: an archive in memory, and the weights beside it."""

    model: Any

    def apply_to(self, module: nn.Module) -> None:
        aoti.aoti_apply(self.model, module)

    def save(self, folder: Path) -> None:
        """Write what `aoti_compile_and_save` writes, without compiling once more."""
        package = folder / "root" / aoti.PACKAGE_FILENAME
        package.parent.mkdir()
        package.write_bytes(self.model.archive_file.getvalue())

    def freeze(self, folder: Path) -> None:
        """Keep the model for the suite's cache, with its weights."""
        (folder / "archive.pt2").write_bytes(self.model.archive_file.getvalue())
        torch.save(dict(self.model.weights.constants_map), folder / "weights.pt")


class Blocks(NamedTuple):
    """Archives by class of block, as a repository for `aoti_blocks_load` has them."""

    archives: dict[str, bytes]

    def apply_to(self, module: nn.Module) -> None:
        """Load them as from the Hub, with a download that gives what is here."""

        def download(
            repo_id: str, filename: str, subfolder: str = "", **_others: Any
        ) -> BytesIO:
            if filename == aoti.PACKAGE_FILENAME and subfolder in self.archives:
                return BytesIO(self.archives[subfolder])
            raise LocalEntryNotFoundError(f"{repo_id} has no {subfolder}/{filename}")

        with patch("huggingface_hub.hf_hub_download", download):
            aoti.aoti_blocks_load(module, "local/blocks")

    def save(self, folder: Path) -> None:
        (folder / _BLOCKS).mkdir()
        for name, archive in self.archives.items():
            (folder / _BLOCKS / name).write_bytes(archive)

    def freeze(self, folder: Path) -> None:
        self.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Blocks:
        paths = sorted((folder / _BLOCKS).iterdir())
        return cls({path.name: path.read_bytes() for path in paths})


class OnHub(NamedTuple):
    """A repository that `aoti_load` fetches from and applies in one go."""

    repo_id: str
    revision: str | None

    def apply_to(self, module: nn.Module) -> None:
        aoti.aoti_load(module, self.repo_id, self.revision)


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
def quantize(module: nn.Module, scheme: str) -> dict[str, str]:
    """Call torchao, as the published recipe does; it says nothing of what it leaves."""
    quantization = importlib.import_module("torchao.quantization")
    quantization.quantize_(module, torchao_config(scheme))
    return {}


@_refusals()
def export(module: nn.Module, call: Any, *, dynamic: Dynamic | None = None) -> Any:
    return torch.export.export(
        module,
        call.args,
        dict(call.kwargs),
        dynamic_shapes=dynamic_shapes(module, call, dynamic),
    )


@_refusals()
def compile(exported: Any, *, options: dict[str, Any] | None = None) -> InMemory:
    return InMemory(aoti.aoti_compile(exported, options))


def apply(compiled: InMemory | Folder | Blocks | OnHub, module: nn.Module) -> None:
    compiled.apply_to(module)


def save(compiled: InMemory | Blocks, folder: Path) -> None:
    compiled.save(folder)


def load(folder: Path) -> Folder | Blocks:
    if (folder / _BLOCKS).is_dir():
        return Blocks.load(folder)
    return Folder(folder)


def freeze(compiled: InMemory | Blocks, folder: Path) -> None:
    compiled.freeze(folder)


def thaw(folder: Path) -> InMemory | Blocks:
    """Make again what `freeze` kept."""
    if (folder / _BLOCKS).is_dir():
        return Blocks.load(folder)
    archive = BytesIO((folder / "archive.pt2").read_bytes())
    weights = torch.load(folder / "weights.pt", weights_only=True)
    return InMemory(aoti.ZeroGPUCompiledModel(archive, aoti.ZeroGPUWeights(weights)))


def compile_regions(
    module: nn.Module,
    run: Callable[[], object],
    *,
    blocks: Sequence[str] | None = None,
    dynamic: Dynamic | None = None,
    leave_eager: bool = False,
    jobs: int = 1,
    progress: bool | Callable[[int, int, str], object] = False,
) -> Blocks:
    if blocks is not None:
        raise Unsupported(
            "aoti_blocks_load takes the classes of _repeated_blocks alone"
        )
    if leave_eager:
        raise Unsupported("aoti_blocks_load leaves nothing eager on request")
    if jobs > 1 or progress:
        raise Unsupported("spaces compiles one graph at a time, and tells nothing")
    archives: dict[str, bytes] = {}
    names: Any = module._repeated_blocks
    for name in names:
        alike = (part for part in module.modules() if type(part).__name__ == name)
        first = next(alike, None)
        if first is not None:
            archives[name] = _compiled_block(first, run, dynamic or {})
    return Blocks(archives)


def _compiled_block(
    block: nn.Module, run: Callable[[], object], dynamic: Dynamic
) -> bytes:
    with aoti.aoti_capture(block) as call:
        run()
    taken = inspect.signature(block.forward).parameters
    ranges = {name: table for name, table in dynamic.items() if name in taken}
    made = compile(export(block, call, dynamic=ranges or None))
    archive: bytes = made.model.archive_file.getvalue()
    return archive


def eager_blocks(_compiled: Blocks) -> Collection[str]:
    return ()


def publish(
    compiled: InMemory | Blocks,
    repo_id: str,
    *,
    variant: str = "",
    model: str = "",  # noqa: ARG001  # spaces writes no card
    model_revision: str = "",  # noqa: ARG001
    figures: Mapping[str, str] | None = None,  # noqa: ARG001
) -> str:
    """Upload the package folder, which spaces leaves to the client of the Hub."""
    if variant or isinstance(compiled, Blocks):
        raise Unsupported("aoti_load fetches one package, and no variant of it")
    with TemporaryDirectory() as folder:
        save(compiled, Path(folder))
        huggingface_hub.create_repo(repo_id, exist_ok=True)
        pushed = huggingface_hub.upload_folder(
            repo_id=repo_id, folder_path=folder, path_in_repo=aoti.PACKAGE_DIRNAME
        )
    return str(pushed.oid)


def fetch(
    repo_id: str,
    *,
    revision: str | None = None,
    trust: Sequence[str] = (),  # noqa: ARG001  # aoti_load asks for none
    variant: str = "",
) -> OnHub:
    if variant:
        raise Unsupported("aoti_load fetches one package, and no variant of it")
    return OnHub(repo_id, revision)


def origin(_compiled: OnHub) -> tuple[str, str]:
    raise Unsupported("what aoti_load applies does not say where it is from")
