"""Graphs that `spaces` has made, or is to load.

A package of its own says nothing of the call that it is for. So it is adopted with
the program that it was compiled from, exported anew where the module is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref import (
    _archive,
    _fused,
    _inductor,
    _internals,
    _manifest,
    _package,
    _traits,
)
from aoti_ref._blocks import find
from aoti_ref._compile import CompiledModel
from aoti_ref._elf import clear_executable_stack
from aoti_ref._errors import BrokenPackage
from aoti_ref._files import Folder
from aoti_ref._folder import PACKAGE
from aoti_ref._package_errors import NotInterchangeable
from aoti_ref._program import describe_program
from aoti_ref._regions import CompiledRegions, Region
from aoti_ref._saving import write_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from torch import nn
    from torch.export import ExportedProgram

_GRAPH = "/data/aotinductor/model/"
_MARK = "aoti_ref.blocks.json"  # in a folder of blocks: which files are of it
_BLOCKS = "aoti_ref.blocks/1"


def save_blocks(
    compiled: CompiledRegions,
    path: str | os.PathLike[str],
    *,
    variant: str | None = None,
) -> None:
    """Write graphs as `spaces.aoti_blocks_load` expects them in a repository.

    That is a folder for each class of blocks, `FluxTransformerBlock/package.pt2`, and
    every block of the class gets its graph.

    Args:
        compiled: From `compile_regions`.
        path: A folder that is not there, is empty, or was written like this, which
            `aoti_ref.blocks.json` in it says. It is replaced.
        variant: What is appended to each name, as in `FluxTransformerBlock.fp8`.

    Raises:
        NotInterchangeable: A class has several graphs, or blocks that are left eager.
        FileExistsError: There is something else at `path`.
    """
    files: dict[str, bytes] = {}
    for region in compiled.regions:
        kind = region.made["(class)"].rpartition(".")[2]
        name = f"{kind}.{variant}/{PACKAGE}" if variant else f"{kind}/{PACKAGE}"
        if name in files or not isinstance(region.compiled, CompiledModel):
            reason = f"{kind} has several graphs, and may have one"
            raise NotInterchangeable(compiled.module, reason)
        files[name] = region.compiled.dump()
    if compiled.eager:
        reason = f"{', '.join(compiled.eager)} would get a graph, and are left eager"
        raise NotInterchangeable(compiled.module, reason)
    config = json.dumps({"kernels": None}).encode()
    files[f"config.{variant}.json" if variant else "config.json"] = config
    mark = _manifest.seal({}, files, _BLOCKS)
    write_folder(Path(path), {**files, _MARK: mark}, _MARK)


def adopt(path: str | os.PathLike[str], program: ExportedProgram) -> CompiledModel:
    """Make a package of a graph that torch or `spaces` has compiled without weights.

    Its library is loaded at once, to ask it for its constants: only for files that
    may run code here. What nobody can ask it is what it was compiled for: that is
    taken from `program`, and a wrong program gives wrong answers.

    Args:
        path: A .pt2 archive.
        program: From `export` here, of the module and for the call that the graph
            was compiled for, with the same ranges.

    Raises:
        NotInterchangeable: The library has other constants or another call.
        BrokenPackage: It is no archive of a graph.
    """
    origin = str(path)
    members = _archive.read(Path(path).read_bytes(), origin, gaps=True)
    files = {
        name.partition(_GRAPH)[2]: data
        for name, data in members.items()
        if _GRAPH in name
    }
    if not any(name.endswith(".wrapper.so") for name in files):
        raise BrokenPackage(origin, "it has no library of a compiled graph")
    program, described, _ = describe_program(program)
    with Folder() as folder:
        for name, data in files.items():
            (folder / Path(name).name).write_bytes(data)
        for library in folder.glob("*.so"):
            clear_executable_stack(library)
        _refuse_other(folder, program, described, origin)
        if wrong := _fused.amiss(folder.iterdir(), described.attention):
            raise NotInterchangeable(origin, wrong)
        archive = _package.build(
            sorted(folder.iterdir()), described, options={}, private=[str(folder)]
        )
    return CompiledModel(archive, origin)


def _refuse_other(
    folder: Path, program: ExportedProgram, described: _package.Described, origin: str
) -> None:
    """Hold a library to a program, as far as it can be asked."""
    wrapper = next(folder.glob("*.wrapper.so"))
    runner: Any = _inductor.new_runner(wrapper, torch.device(described.device))
    known = {constant.name: constant for constant in described.constants}
    names: dict[str, str] = runner.get_constant_names_to_original_fqns()
    kinds: dict[str, int] = runner.get_constant_names_to_dtypes()
    for inner, name in names.items():
        if name not in known or known[name].literal:
            raise NotInterchangeable(origin, f"the program has no constant {name}")
        wanted = getattr(torch, known[name].dtype)
        number = _internals.dtype_number(wanted)
        if number not in (-1, kinds[inner]):
            reason = f"{name} is no {known[name].dtype} in the library"
            raise NotInterchangeable(origin, reason)
    _, theirs = runner.get_call_spec()
    ours = _internals.spell_spec(program.call_spec.out_spec)
    if json.loads(theirs) != json.loads(ours):
        raise NotInterchangeable(origin, f"it returns {theirs}, the program {ours}")


def load_parts(
    packages: Mapping[str, Path],
    module: nn.Module,
    programs: Mapping[str, ExportedProgram] | None,
) -> CompiledRegions:
    """Read the packages of parts of `module`, for `apply`.

    Args:
        packages: By the names of parts, or of the lists or classes that hold them.
        module: Which has these parts.
        programs: For packages that are not of this project's making, by those names.

    Raises:
        NotInterchangeable: One needs a program, and there is none.
        NoBlocks: `module` has no such part.
        BrokenPackage, WrongHost: As `load` says.
    """
    regions: list[Region] = []
    for name, path in packages.items():
        compiled = load_one(path, (programs or {}).get(name))
        alike = find(module, (name,))
        regions += [
            Region((part,), compiled, _traits.make(block))
            for part, block in alike.items()
        ]
    wanted = tuple(name for region in regions for name in region.names)
    return CompiledRegions(type(module).__name__, wanted, tuple(regions), {})


def load_one(path: Path, program: ExportedProgram | None) -> CompiledModel:
    """Read a package, or adopt it where it has no manifest."""
    data = path.read_bytes()
    names = _archive.names(data, str(path))
    if any(name.endswith(f"/{_manifest.NAME}") for name in names):
        return CompiledModel(data, str(path))
    if program is None:
        reason = "it does not say what it is for; give the program that it is of"
        raise NotInterchangeable(str(path), reason)
    return adopt(path, program)
