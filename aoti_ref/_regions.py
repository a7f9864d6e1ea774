"""Graphs for the repeated blocks of a module, and the blocks that each is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from aoti_ref import _attention, _blocks, _bundle, _traits, _variants
from aoti_ref._compile import CompiledModel, Part
from aoti_ref._errors import Fault
from aoti_ref._making_errors import FailedBlocks
from aoti_ref._saving import write_whole

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from torch import nn

    from aoti_ref._peak import Peak
    from aoti_ref._source import Source
    from aoti_ref._variants import CompiledVariants

FORM = _bundle.Form("regions", "aoti_ref.regions/2")


class Region(NamedTuple):
    """Blocks that share a graph, or one for each form of call, and their make."""

    names: tuple[str, ...]
    compiled: CompiledModel | CompiledVariants
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
        peak: The memory that compiling took, beside what was there before, without
            that of children (each graph tells its own); None if they were loaded.
        source: Where on the Hub it is from, if it is from there.
    """

    module: str
    wanted: tuple[str, ...] | None
    regions: tuple[Region, ...]
    eager: dict[str, str]
    peak: Peak | None = None
    source: Source | None = None

    def __repr__(self) -> str:
        blocks = sum(len(region.names) for region in self.regions)
        eager = f", {len(self.eager)} left eager" if self.eager else ""
        models = [model for each in self.regions for model in each.compiled.models]
        count = len(set(models))
        graphs = f"{count} graphs for {blocks} blocks"
        named = sorted({name for m in models for name in m.package.attention})
        return (
            f"CompiledRegions({self.module}, {graphs}{_attention.told(named)}{eager})"
        )

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
        write_whole(path, self.dump())

    def dump(self) -> bytes:
        """Give what `save` writes."""
        graphs = [region.compiled.dump() for region in self.regions]
        return _bundle.write(FORM, self.told(), graphs)

    def told(self) -> dict[str, Any]:
        """Say which blocks the graphs are for, in words that JSON has."""
        return {
            "module": self.module,
            "wanted": self.wanted,
            "regions": [[region.names, region.made] for region in self.regions],
            "eager": self.eager,
        }


def read(
    data: bytes, origin: str
) -> CompiledModel | CompiledVariants | CompiledRegions:
    """Read what `save` wrote into one file: one graph, variants, or those of regions.

    Raises:
        BrokenPackage, WrongHost: As `load` says.
    """
    if not _bundle.holds(data, origin, FORM):
        return _variants.read(data, origin)
    manifest, graphs = _bundle.read(data, origin, FORM)
    return regions_of(manifest, graphs, origin)


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
            Region(tuple(names), _variants.read(graph, origin), made)
            for graph, (names, made) in zip(graphs, told["regions"], strict=True)
        )
        return CompiledRegions(
            told["module"],
            None if wanted is None else tuple(wanted),
            regions,
            told["eager"],
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _bundle.strange(origin, FORM, error) from error


def _differences(
    name: str, wanted: dict[str, str], found: dict[str, str]
) -> list[Fault]:
    return [
        Fault("made", name, f"{key}: wants {wanted.get(key)}, found {found.get(key)}")
        for key in {**wanted, **found}
        if wanted.get(key) != found.get(key)
    ]
