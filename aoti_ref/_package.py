"""A compiled graph without weights: one archive that says what it is.

The archive is torch's .pt2, which its own loader opens too, with a manifest beside the
graph. Nothing of it is loaded as code before all of it was held to the manifest, and
the manifest to this machine.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from aoti_ref import (
    _archive,
    _containers,
    _elf,
    _host,
    _inductor,
    _library,
    _literals,
    _manifest,
    _private,
    _sound,
    _tree,
    _written,
)
from aoti_ref._errors import BrokenPackage, Fault
from aoti_ref._kernels import Kernel
from aoti_ref._package_errors import WrongHost
from aoti_ref._weights import Constant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch
    from torch.utils._pytree import TreeSpec

    from aoti_ref._contract import Contract

_ROOT = "archive"
_GRAPH = "data/aotinductor/model/"
_LITERALS = "extra/aoti_ref/literals/"
_WRAPPER = ".wrapper.so"
_WRAPPER_SOURCE = ".wrapper.cpp"
_SOURCES = (".cpp", ".h", ".py")
# What is raised for a field that is not what it should be.
_STRANGE = (LookupError, TypeError, ValueError, AttributeError)


class Described(NamedTuple):
    """What a manifest says of a graph.

    Args:
        contract: What a call must look like.
        constants: What the graph needs.
        ties: Names of one and the same tensor, group by group.
        literals: Constants that no module holds, by name.
        values: Plain values of the module that its code read, by name.
        places: Where literals hang in containers of the module, by name.
        device: The type of the device that it was compiled for.
        ops: The operators that are not torch's own, such as `mine::attention`.
        attention: The backends of attention that it calls; "default" among them where
            torch was to choose.
        group: How the blocks are made that share it; None for a whole module's.
    """

    contract: Contract
    constants: Sequence[Constant]
    ties: Sequence[Sequence[str]]
    literals: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]
    places: Mapping[str, _containers.Place]
    device: str
    ops: Sequence[str]
    attention: Sequence[str]
    group: Mapping[str, str] | None = None


def build(
    files: Sequence[Path],
    graph: Described,
    *,
    options: Mapping[str, Any],
    keep_sources: bool = False,
    source: Mapping[str, str] | None = None,
    kernels: Sequence[Kernel] = (),
    private: Sequence[str] = (),
) -> bytes:
    """Make the archive of a compiled graph.

    Args:
        files: What the compiler made; they are rewritten where they are.
        graph: What the manifest says of it.
        options: Inductor's, as the caller gave them.
        keep_sources: Whether the generated code goes with it.
        source: The model that it was compiled from: its `repo` and `revision`.
        kernels: What registers its operators.
        private: Folders whose names are nobody's business, beside the usual ones.
    """
    kept = [file for file in files if keep_sources or file.suffix not in _SOURCES]
    if not keep_sources and _inductor.goes_by_sources():
        for file in files:
            if file.name.endswith(_WRAPPER_SOURCE):
                file.write_text("// The source was left out.\n", encoding="utf-8")
                kept.append(file)
    if not keep_sources:
        kept = _private.renamed(kept)
    for file in kept:
        data = file.read_bytes()
        if _elf.is_library(data):
            data = _elf.stripped(data)
        file.write_bytes(_private.blotted(data, private))
    texts = {_LITERALS + name: _literals.dump(t) for name, t in graph.literals.items()}
    extra = {name.partition("/")[2]: text for name, text in texts.items()}
    members = _below(_archive.read(_inductor.pack(kept, extra), "package", gaps=True))
    number = int(_manifest.sha256(b"".join(members.values())), 16)
    members[".data/serialization_id"] = f"{number:040d}"[:40].encode()
    kinds = {place.whole.partition("(")[0] for place in graph.places.values()}
    fields = {
        "module": graph.contract.module,
        "device": graph.device,
        "contract": _written.encode(graph.contract),
        "constants": [constant._asdict() for constant in graph.constants],
        "ties": [list(group) for group in graph.ties],
        "values": dict(graph.values),
        "places": dict(graph.places),
        "group": dict(graph.group) if graph.group else None,
        "source": dict(source) if source else None,
        "kernels": [kernel.told() for kernel in kernels],
        "ops": sorted(graph.ops),
        "attention": list(graph.attention),
        "quantisation": ", ".join(sorted(kinds - {""})) or None,
        "options": {name: _private.public(value) for name, value in options.items()},
        "built_with": _host.built_with(),
        "needs": _host.needs(graph.device, members.values()),
    }
    sealed = {_manifest.NAME: _manifest.seal(fields, members), **members}
    return _archive.write({f"{_ROOT}/{name}": data for name, data in sealed.items()})


def read_manifest(archive: bytes, origin: str = "package") -> dict[str, Any]:
    """Read what an archive says of itself, on any machine; nothing is loaded.

    Raises:
        BrokenPackage: It is no package, or was changed.
    """
    return _manifest.read(_opened(archive, origin), origin)


class Package:
    """An archive that was read, found whole, and found to be for this machine.

    Args:
        archive: The bytes of the archive.
        origin: Where they came from, for messages.

    Raises:
        BrokenPackage: It is no archive, lacks a member, was changed, or was made by
            another format.
        WrongHost: It is for another release of torch, another platform, or other
            instructions. Operators are looked for when it is applied: until then,
            kernels may be loaded that have them.
    """

    def __init__(self, archive: bytes, origin: str) -> None:
        self.archive = archive
        self.origin = origin
        members = _opened(archive, origin)
        manifest = self.manifest = _manifest.read(members, origin)
        try:
            faults = _host.faults(manifest["needs"])
            if faults:
                raise WrongHost(origin, tuple(faults))
            self._read(manifest, members)
        except (*_STRANGE, RuntimeError) as error:  # which torch raises for a literal
            reason = f"its manifest is not as {_manifest.FORMAT} has it"
            detail = f"{type(error).__name__}: {error}"
            raise BrokenPackage(origin, f"{reason} ({detail})") from error
        self._digest = _manifest.sha256(archive)

    def _read(self, manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
        _sound.check_lists(manifest)
        self.contract = _written.decode(manifest["contract"])
        self.device: str = manifest["device"]
        self.constants = [
            Constant(
                **{
                    **said,
                    "shape": tuple(said["shape"]),
                    "stride": tuple(said["stride"]),
                }
            )
            for said in manifest["constants"]
        ]
        for constant in self.constants:
            _sound.check_constant(constant)
        _sound.check_contract(self.contract, self.constants)
        self.ties: list[list[str]] = manifest["ties"]
        self.values: dict[str, Any] = manifest["values"]
        self.ops: list[str] = manifest["ops"]
        self.attention: list[str] = manifest["attention"]
        self.kernels = [Kernel.read(found) for found in manifest["kernels"]]
        self.places = {
            name: _containers.Place(child, tuple((k, key) for k, key in steps), whole)
            for name, (child, steps, whole) in manifest["places"].items()
        }
        self.literals = {
            c.name: _literals.read(members[_LITERALS + c.name], c)
            for c in self.constants
            if c.literal
        }
        files = _graph_files(members)
        wrappers = [name for name in files if name.endswith(_WRAPPER)]
        if len(wrappers) != 1:
            message = f"it has {len(wrappers)} libraries *{_WRAPPER}, wanted 1"
            raise ValueError(message)
        for name, data in files.items():
            if _elf.is_library(data) and _elf.wants_executable_stack(data):
                message = f"{name} asks for an executable stack"
                raise ValueError(message)

    def result(self) -> TreeSpec:
        """Give the structure of the result, and import the libraries of its classes.

        Raises:
            WrongHost: One of them is not installed here.
            BrokenPackage: It is no structure, or one of another number of outputs.
        """
        try:
            found = _tree.load_result(self.contract.result)
        except ImportError as error:
            wanted = error.name or str(error)
            fault = Fault("library", wanted, "a class of the result is from it")
            raise WrongHost(self.origin, (fault,)) from error
        except (*_STRANGE, RuntimeError, AssertionError) as error:
            reason = f"its result cannot be read ({type(error).__name__}: {error})"
            raise BrokenPackage(self.origin, reason) from error
        if found.num_leaves != len(self.contract.outputs):
            reason = f"its result has {found.num_leaves} leaves"
            raise BrokenPackage(self.origin, reason)
        return found

    def runner(self, device: torch.device) -> _inductor.Runner:
        """Make a runner of the graph, which is unpacked once per process at most.

        Args:
            device: Where its constants live.

        Raises:
            WrongHost: The GPU is none that it was compiled for.
            UnusableFolder: The folder for temporary files cannot be used. The next
                call tries again.
        """
        if device.type == "cuda":
            faults = _host.gpu_faults(self.manifest["needs"], device.index)
            if faults:
                raise WrongHost(self.origin, tuple(faults))
        library = _library.library(self._digest)
        return library.runner(self._files, device)

    def discard(self) -> None:
        """Remove what was unpacked of a graph that turned out to be no good."""
        _library.library(self._digest).discard()

    def _files(self) -> dict[str, bytes]:
        return _graph_files(_opened(self.archive, self.origin))


def _opened(archive: bytes, origin: str) -> dict[str, bytes]:
    """Read an archive whose sizes are as its manifest says."""
    check = _manifest.sizes_first(_manifest.NAME, origin)
    return _below(_archive.read(archive, origin, check=check))


def _below(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """Name members below the archive's root folder, whatever it is called."""
    roots = {name.partition("/")[0] for name in members}
    if len(roots) != 1:
        raise BrokenPackage("package", f"it has {len(roots)} root folders, wanted 1")
    return {name.partition("/")[2]: data for name, data in members.items()}


def _graph_files(members: Mapping[str, bytes]) -> dict[str, bytes]:
    found = {
        name.removeprefix(_GRAPH): data
        for name, data in members.items()
        if name.startswith(_GRAPH)
    }
    nested = [name for name in found if PurePosixPath(name).name != name]
    if nested:
        message = f"{nested[0]} is in a folder of the graph's"
        raise ValueError(message)
    return found
