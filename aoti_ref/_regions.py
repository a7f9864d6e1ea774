"""Graphs for the repeated blocks of a module, and the blocks that each is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aoti_ref import _archive, _blocks, _manifest, _traits
from aoti_ref._compile import CompiledModel, Part
from aoti_ref._errors import BrokenPackage, FailedBlocks, Fault
from aoti_ref._files import write_whole

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from torch import nn

FORMAT = "aoti_ref.regions/2"
_ROOT = "regions"
_MANIFEST = "manifest.json"


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
    """

    module: str
    wanted: tuple[str, ...] | None
    regions: tuple[Region, ...]
    eager: dict[str, str]

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
        members = {
            _member(index): region.compiled.package.archive
            for index, region in enumerate(self.regions)
        }
        sealed = {_MANIFEST: _manifest.seal(self.told(), members, FORMAT), **members}
        named = {f"{_ROOT}/{name}": data for name, data in sealed.items()}
        write_whole(path, _archive.write(named, compress=False))  # graphs are

    def told(self) -> dict[str, Any]:
        """Say which blocks the graphs are for, in words that JSON has."""
        return {
            "module": self.module,
            "wanted": self.wanted,
            "regions": [[region.names, region.made] for region in self.regions],
            "eager": self.eager,
        }


def read(data: bytes, origin: str) -> CompiledModel | CompiledRegions:
    """Read what `save` wrote into one file.

    Raises:
        BrokenPackage, WrongHost: As `load` says.
    """
    if f"{_ROOT}/{_MANIFEST}" not in _archive.names(data, origin):
        return CompiledModel(data, origin)
    check = _manifest.sizes_first(_MANIFEST, origin, FORMAT)
    members = _archive.read(data, origin, check=check)
    inside = {name.partition("/")[2]: data for name, data in members.items()}
    manifest = _manifest.unsealed(inside.pop(_MANIFEST), origin, FORMAT)
    _manifest.hold(manifest, inside, origin)
    return regions_of(
        manifest, [inside.get(_member(i), b"") for i in range(len(inside))], origin
    )


def regions_of(
    told: Mapping[str, Any], graphs: Sequence[bytes], origin: str
) -> CompiledRegions:
    """Make regions of graphs, and of what `told` has said of them.

    Raises:
        BrokenPackage, WrongHost: As `load` says.
    """
    try:
        wanted = told["wanted"]
        regions = tuple(
            Region(tuple(names), CompiledModel(graph, origin), made)
            for graph, (names, made) in zip(graphs, told["regions"], strict=True)
        )
        return CompiledRegions(
            told["module"],
            None if wanted is None else tuple(wanted),
            regions,
            told["eager"],
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        detail = f"{type(error).__name__}: {error}"
        reason = f"its manifest is not as {FORMAT} has it ({detail})"
        raise BrokenPackage(origin, reason) from error


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
