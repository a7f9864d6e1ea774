"""The rows: how each way compiles a module, and takes it from disk in a new process."""

from __future__ import annotations

import importlib.util
import zipfile
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from benchmarks.full import stages
from benchmarks.full.tuning import Replayed, fused, with_epilogues

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_OF_GPUS = ("cudnn", "efficient")  # backends of attention

Call = dict[str, Any]
Modulelike = Any  # diffusers' classes are untyped


class Way(Protocol):
    """One row, as a new process finds it: what it needs is on disk."""

    needs: str | None  # the module without which there is no such row
    resolutions: int  # at how many it is called
    fp8: bool  # whether its linear layers multiply FP8

    def lacks(self, device: str) -> str:
        """Say why there is no such row here: nothing, if there is."""

    def ready(self, module: Modulelike) -> Modulelike:
        """Do to new weights what belongs to making them."""

    def use(self) -> None:
        """Import what `apply` needs."""

    def apply(self, module: Modulelike, folder: Path) -> None:
        """Take from `folder` what `prepare` wrote; a call may load the rest."""


class Compiling(Way, Protocol):
    """A row that compiles, in a process of its own, before."""

    def split(self, spent: dict[str, float], total: float) -> dict[str, float]:
        """Split the seconds of `prepare`, as `stages` has it."""

    def start(self, device: str) -> None:
        """Compile something trivial, so that a first compile's cost is told apart."""

    def prepare(
        self, module: Modulelike, calls: Sequence[Call], folder: Path
    ) -> Mapping[str, int]:
        """Compile, write into `folder`, and give the bytes of each graph's package."""


class Small(nn.Module):
    """What every process compiles first: a layer, and something to fuse with it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.layer(x)) * 2


def _small(device: str) -> tuple[nn.Module, torch.Tensor]:
    return Small().to(device).eval(), torch.zeros(4, 16, device=device)


class Eager:
    """Nothing is compiled."""

    needs: str | None = None
    resolutions = 1
    fp8 = False

    def lacks(self, device: str) -> str:  # noqa: ARG002
        absent = self.needs is not None and importlib.util.find_spec(self.needs) is None
        return f"there is no {self.needs}" if absent else ""

    def ready(self, module: Modulelike) -> Modulelike:
        return module

    def use(self) -> None:
        pass

    def apply(self, module: Modulelike, folder: Path) -> None:
        pass


class Jit(Eager):
    """torch.compile; what it leaves on disk is its cache."""

    def split(self, spent: dict[str, float], total: float) -> dict[str, float]:
        return stages.just_in_time(spent, total)

    def __init__(self, *, regional: bool) -> None:
        self.regional = regional

    def start(self, device: str) -> None:
        small, x = _small(device)
        torch.compile(small)(x)

    def prepare(
        self, module: Modulelike, calls: Sequence[Call], folder: Path
    ) -> Mapping[str, int]:
        self.apply(module, folder)
        module(**calls[0])
        return {}

    def apply(self, module: Modulelike, folder: Path) -> None:  # noqa: ARG002
        if self.regional:
            module.compile_repeated_blocks(fullgraph=True)
        else:
            module.compile()


class Spaces(Eager):
    """Hugging Face's `spaces`, through the suite's adapter.

    It brings no program to write a package of blocks, so that the adapter compiles
    the first block of each class, and `aoti_blocks_load` loads what it made.
    """

    needs: str | None = "spaces"

    def split(self, spent: dict[str, float], total: float) -> dict[str, float]:
        return stages.ahead(spent, total)

    def __init__(self, *, regional: bool) -> None:
        self.regional = regional

    def start(self, device: str) -> None:
        from conformance.adapters import spaces

        small, x = _small(device)
        spaces.compile(torch.export.export(small, (x,)))

    def prepare(
        self, module: Modulelike, calls: Sequence[Call], folder: Path
    ) -> Mapping[str, int]:
        from conformance.adapters import spaces

        if self.regional:
            blocks = spaces.compile_regions(module, lambda: module(**calls[0]))
            spaces.save(blocks, folder)
            return {name: len(archive) for name, archive in blocks.archives.items()}
        with spaces.capture(module) as captured:
            module(**calls[0])
        whole = spaces.compile(spaces.export(module, captured))
        spaces.save(whole, folder)
        return {type(module).__name__: len(whole.model.archive_file.getvalue())}

    def use(self) -> None:
        from conformance.adapters import spaces  # noqa: F401  # imported to be timed

    def apply(self, module: Modulelike, folder: Path) -> None:
        from conformance.adapters import spaces

        spaces.apply(spaces.load(folder), module)


class Reference(Eager):
    """aoti_ref."""

    exporting: Mapping[str, Any] = {}  # for `export`

    def lacks(self, device: str) -> str:
        if self.epilogues and device == "cpu":
            return f"on {device} no product has this epilogue"
        return super().lacks(device)

    def split(self, spent: dict[str, float], total: float) -> dict[str, float]:
        return stages.ahead(spent, total)

    def __init__(
        self,
        *,
        regional: bool,
        options: Mapping[str, Any] | None = None,
        fused: bool = False,
        replayed: bool = False,
        epilogues: bool = False,
    ) -> None:
        self.regional = regional
        self.epilogues = epilogues  # whether products write what a GELU makes of them
        self.options = options  # Inductor's
        self.fused = fused  # whether a layer makes queries, keys and values at once
        self.replayed = replayed  # whether its launches are recorded, and replayed

    def ready(self, module: Modulelike) -> Modulelike:
        return fused(module) if self.fused else module

    def start(self, device: str) -> None:
        import aoti_ref

        small, x = _small(device)
        aoti_ref.compile(aoti_ref.export(small, aoti_ref.Call((x,))))

    def prepare(
        self, module: Modulelike, calls: Sequence[Call], folder: Path
    ) -> Mapping[str, int]:
        import aoti_ref

        path = folder / "package.pt2"
        if self.regional:
            with aoti_ref.capture_regions(module) as recorded:
                for call in calls:
                    module(**call)
            blocks = aoti_ref.compile_regions(
                module, recorded, options=self.options, progress=False
            )
            blocks.save(path)
            return _graphs(path)
        with aoti_ref.capture(module) as captured:
            module(**calls[0])
        program = aoti_ref.export(module, captured, **self.exporting)
        if self.epilogues:
            program = with_epilogues(program)
        aoti_ref.compile(program, options=self.options).save(path)
        return {type(module).__name__: path.stat().st_size}

    def use(self) -> None:
        import aoti_ref  # noqa: F401  # imported to be timed

    def apply(self, module: Modulelike, folder: Path) -> None:
        import aoti_ref

        aoti_ref.apply(aoti_ref.load(folder / "package.pt2"), module)
        if self.replayed:
            module.forward = Replayed(module.forward)


def _graphs(path: Path) -> dict[str, int]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    return {e.filename: e.file_size for e in entries if e.filename.endswith(".pt2")}


class Attending(Reference):
    """The whole of it, with one backend of attention."""

    def __init__(self, backend: str) -> None:
        super().__init__(regional=False)
        self.exporting = {"attention": backend}

    def lacks(self, device: str) -> str:
        backend = self.exporting["attention"]
        absent = device == "cpu" and backend in _OF_GPUS
        return f"on {device} there is no {backend} attention" if absent else ""


class Resolutions(Reference):
    """Its blocks with a graph for each resolution, on one set of weights."""

    needs: str | None = "aoti_ref._variants"
    resolutions = 3


class Quantised(Reference):
    """The same on linear layers in FP8; to quantise them is part of making weights."""

    needs: str | None = "torchao"
    fp8 = True

    def __init__(self, scheme: str, *, regional: bool, **tuned: Any) -> None:
        super().__init__(regional=regional, **tuned)
        self.scheme = scheme

    def ready(self, module: Modulelike) -> Modulelike:
        import aoti_ref

        super().ready(module)
        if next(module.parameters()).device.type == "cpu":  # a tiny one
            aoti_ref.quantize(module, "weight_only", smallest=0)
        else:
            aoti_ref.quantize(module, self.scheme)
        return module
