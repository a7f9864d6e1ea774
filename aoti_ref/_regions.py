"""Graphs for the repeated blocks of a module, and the blocks that each is for."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aoti_ref import _blocks, _traits
from aoti_ref._compile import CompiledModel, Part
from aoti_ref._errors import BrokenPackage, FailedBlocks, Fault
from aoti_ref._files import write_whole

if TYPE_CHECKING:
    import os

    from torch import nn

    from aoti_ref._source import Source

FORMAT = "aoti_ref.regions/1"
_MANIFEST = "aoti_ref_regions.json"


class Region(NamedTuple):
    """One graph, the blocks that share it, and how those are made."""

    names: tuple[str, ...]
    compiled: CompiledModel
    made: dict[str, str]


@dataclass(frozen=True)
class CompiledRegions:
    """What `compile_regions` made; `apply` takes it for the module with the blocks.

    It pickles, and can be applied to every module that has the same blocks.

    Args:
        module: The class of the module.
        wanted: The names that chose the blocks; None if nobody did.
        regions: The graphs and their blocks.
        eager: The blocks that were left eager, by name, and why.
        source: Where on the Hub it is from, if it is from there.
    """

    module: str
    wanted: tuple[str, ...] | None
    regions: tuple[Region, ...]
    eager: dict[str, str]
    source: Source | None = None

    def __repr__(self) -> str:
        blocks = sum(len(region.names) for region in self.regions)
        eager = f", {len(self.eager)} left eager" if self.eager else ""
        graphs = f"{len(self.regions)} graphs for {blocks} blocks"
        return f"CompiledRegions({self.module}, {graphs}{eager})"

    def parts(self, module: nn.Module) -> list[Part]:
        """Find the block of `module` that each graph is for.

        Raises:
            NoBlocks: It has no blocks at all.
            FailedBlocks: It has others, or some are made of other code.
        """
        found = _blocks.find(module, self.wanted)
        known = {name for region in self.regions for name in region.names}
        faults = [
            Fault("unknown", name, "no graph was compiled for it")
            for name in found
            if name not in known | self.eager.keys()
        ]
        parts: list[Part] = []
        for region in self.regions:
            for name in region.names:
                if name not in found:
                    faults.append(Fault("missing", name, "a graph is there for it"))
                    continue
                faults += _differences(name, region.made, _traits.make(found[name]))
                parts.append(Part(name, region.compiled, found[name]))
        if faults:
            what = "differ from what was compiled"
            raise FailedBlocks(type(module).__name__, what, tuple(faults))
        return parts

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all graphs into the one file `path`, whole or not at all."""
        buffer = io.BytesIO()
        manifest = {
            "format": FORMAT,
            "module": self.module,
            "wanted": self.wanted,
            "regions": [[region.names, region.made] for region in self.regions],
            "eager": self.eager,
        }
        with zipfile.ZipFile(buffer, "w") as archive:  # packages are compressed
            archive.writestr(_MANIFEST, json.dumps(manifest))
            for index, region in enumerate(self.regions):
                archive.writestr(_member(index), region.compiled.package.archive)
        write_whole(path, buffer.getvalue())


def load(path: str | os.PathLike[str]) -> CompiledModel | CompiledRegions:
    """Read what `save` wrote: one graph, or those of regions.

    Raises:
        BrokenPackage: It is damaged, or of another format or torch.
        FileNotFoundError: There is no such file.
    """
    data = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if _MANIFEST in archive.namelist():
                return _read(archive, str(path))
    except (zipfile.BadZipFile, EOFError, KeyError) as error:
        raise BrokenPackage(str(path), f"not a whole archive ({error})") from error
    return CompiledModel(data, str(path))


def _read(archive: zipfile.ZipFile, origin: str) -> CompiledRegions:
    manifest: dict[str, Any] = json.loads(archive.read(_MANIFEST))
    if manifest["format"] != FORMAT:
        found = manifest["format"]
        raise BrokenPackage(origin, f"its format is {found!r}, wanted {FORMAT!r}")
    regions = [
        Region(tuple(names), CompiledModel(archive.read(_member(index)), origin), made)
        for index, (names, made) in enumerate(manifest["regions"])
    ]
    wanted = manifest["wanted"]
    return CompiledRegions(
        manifest["module"],
        None if wanted is None else tuple(wanted),
        tuple(regions),
        manifest["eager"],
    )


def _member(index: int) -> str:
    return f"graphs/{index}.pt2"


def _differences(
    name: str, wanted: dict[str, str], found: dict[str, str]
) -> list[Fault]:
    return [
        Fault(
            "made", f"{name}.{key}", f"wants {wanted.get(key)}, found {found.get(key)}"
        )
        for key in {**wanted, **found}
        if wanted.get(key) != found.get(key)
    ]
