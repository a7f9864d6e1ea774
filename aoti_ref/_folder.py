"""Packages on the disk: one file, or a folder as `spaces` lays it out.

    aoti_ref.json                        which files there are, and what they are for
    root/package.pt2                     the graph of a module, or
    submodules/blocks.0/package.pt2      that of a block: one file for each block

Every package.pt2 is whole in itself: it has a manifest of its own. Variants have the
name variants.pt2 in its place, so that no other layer takes them for one graph.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from aoti_ref import _manifest, _regions, _variants
from aoti_ref._compile import CompiledModel
from aoti_ref._errors import BrokenPackage
from aoti_ref._saving import write_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from aoti_ref._regions import CompiledRegions
    from aoti_ref._variants import CompiledVariants

FORMAT = "aoti_ref.folder/2"
PACKAGE = "package.pt2"
ROOT = f"root/{PACKAGE}"
_VARIANTS = "variants.pt2"
_MANIFEST = "aoti_ref.json"


def save_folder(
    compiled: CompiledModel | CompiledVariants | CompiledRegions,
    path: str | os.PathLike[str],
) -> None:
    """Write a package as a folder that `spaces` loads too, whole or not at all.

    It costs a file for every block; `save` writes the same in one file. Of variants
    `spaces` knows nothing, and finds no package.

    Args:
        compiled: From `compile`, `compile_variants`, `compile_regions` or `load`.
        path: The folder. An empty one there is replaced, and one of this kind that
            nobody has put anything else into.

    Raises:
        FileExistsError: There is something else.
    """
    if isinstance(compiled, _regions.CompiledRegions):
        files = {
            f"submodules/{name}/{_named(region.compiled)}": region.compiled.dump()
            for region in compiled.regions
            for name in region.names
        }
        manifest = _manifest.seal(compiled.told(), files, FORMAT)
    else:
        files = {f"root/{_named(compiled)}": compiled.dump()}
        manifest = _manifest.seal({"regions": None}, files, FORMAT)
    write_folder(Path(path), {**files, _MANIFEST: manifest}, _MANIFEST)


def load(
    path: str | os.PathLike[str],
) -> CompiledModel | CompiledVariants | CompiledRegions:
    """Read what `save` or `save_folder` wrote: one graph, variants, or regions.

    All of it is held to its manifest, and the manifest to this machine, before any
    of it is loaded as code. Loading needs no compiler and writes no file.

    Raises:
        BrokenPackage: It is damaged, or of another format.
        WrongHost: It is for another release of torch, or another machine.
        FileNotFoundError: There is no such file.
    """
    place = Path(path)
    if not place.is_dir():
        return _regions.read(place.read_bytes(), str(path))
    if not (place / _MANIFEST).is_file():
        if (place / ROOT).is_file():
            return _regions.read((place / ROOT).read_bytes(), str(place / ROOT))
        hint = "the folder of another layer needs its module (`spaces_api`)"
        raise BrokenPackage(str(path), f"it has no {_MANIFEST}; {hint}")
    data = (place / _MANIFEST).read_bytes()
    manifest = _manifest.unsealed(data, str(path), FORMAT)
    files = {name: _file(place, name) for name in manifest["members"]}
    _manifest.hold(manifest, files, str(path))
    if manifest.get("regions") is None:
        return _variants.read(_graph(files, "root"), str(path))
    try:
        firsts = [f"submodules/{names[0]}" for names, _ in manifest["regions"]]
    except (LookupError, TypeError, ValueError) as error:
        reason = f"its {_MANIFEST} is not as {FORMAT} has it"
        raise BrokenPackage(str(path), reason) from error
    graphs = [_graph(files, first) for first in firsts]
    return _regions.regions_of(manifest, graphs, str(path))


def submodule(name: str) -> str:
    """Say where the package of a block is."""
    return f"submodules/{name}/{PACKAGE}"


def _named(compiled: CompiledModel | CompiledVariants) -> str:
    return PACKAGE if isinstance(compiled, CompiledModel) else _VARIANTS


def _graph(files: Mapping[str, bytes], folder: str) -> bytes:
    """Give what is in one of the folders; nothing, which is no package, if none is."""
    names = (f"{folder}/{PACKAGE}", f"{folder}/{_VARIANTS}")
    return next((files[name] for name in names if name in files), b"")


def _file(folder: Path, name: str) -> bytes:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BrokenPackage(str(folder), f"member {name!r} is outside of the folder")
    try:
        return (folder / path).read_bytes()
    except FileNotFoundError as error:
        raise BrokenPackage(str(folder), f"member {name} is missing") from error
    except PermissionError:  # which is no fault of the package's
        raise
    except (OSError, ValueError) as error:  # a folder, or no name for a file
        reason = f"member {name!r} cannot be read ({error})"
        raise BrokenPackage(str(folder), reason) from error
