"""Compile an exported program into a package without weights."""

from __future__ import annotations

import copy
import os
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from aoti_ref import _attention, _form, _fused, _inductor, _kernels, _package
from aoti_ref._elf import clear_executable_stack
from aoti_ref._files import Folder
from aoti_ref._making_errors import ConflictingOption, NotCompilable, UnknownOption
from aoti_ref._peak import Peak, told
from aoti_ref._program import describe_program
from aoti_ref._saving import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from aoti_ref._source import Source

_SAYS_WHERE = torch.ops.aten._assert_tensor_metadata.default


class CompiledModel:
    """A compiled graph without weights, ready for `apply`.

    It is its archive: it pickles as bytes, and nothing native is loaded before a
    module that it was applied to is called. Its `peak` tells the memory that `compile`
    took, beside what was there before; it is None for a model that was loaded.
    """

    def __init__(
        self,
        archive: bytes,
        origin: str = "package",
        peak: Peak | None = None,
        source: Source | None = None,
    ) -> None:
        self.package = _package.Package(archive, origin)
        self.peak = peak
        self.source = source  # on the Hub, if it is from there

    def __repr__(self) -> str:
        contract = self.package.contract
        kib = len(self.package.archive) // 1024
        told = _attention.told(self.package.attention)
        return (
            f"CompiledModel({contract.module}, {self.package.device}{told}, {kib} KiB)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        told = self.peak, self.source
        return CompiledModel, (self.package.archive, "package", *told)

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledModel:
        return self  # it never changes

    @property
    def manifest(self) -> dict[str, Any]:
        """What the package says of itself: `aoti-package-2.schema.json` has it."""
        return copy.deepcopy(self.package.manifest)

    @property
    def models(self) -> tuple[CompiledModel, ...]:
        """Give the graphs of it, as variants do: itself."""
        return (self,)

    def dump(self) -> bytes:
        """Give what `save` writes."""
        return self.package.archive

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the package to the file `path` (`*.pt2`), whole or not at all."""
        write_whole(path, self.dump())

    def parts(self, module: nn.Module) -> list[Part]:
        """Say which modules this stands in for, and how: the one that it is given."""
        return [Part("", self, module)]


class Graphs(Protocol):
    """What stands in for one module: a compiled model, or several variants of it."""

    @property
    def models(self) -> tuple[CompiledModel, ...]:
        """The graphs, in the order in which they are asked."""


class Part(NamedTuple):
    """A module that a compiled model is to stand in for: its name, model and itself."""

    name: str
    compiled: Graphs
    module: nn.Module


@told
def compile(  # used qualified, as re.compile is
    program: ExportedProgram,
    *,
    options: Mapping[str, Any] | None = None,
    keep_sources: bool = False,
    source: Mapping[str, str] | None = None,
    kernels: Sequence[Mapping[str, Any]] = (),
) -> CompiledModel:
    """Compile `program` for the device that its tensors are on.

    No weight travels with the result: `apply` binds a module's own. It costs
    seconds for a block and minutes for a large model, and leaves torch's
    configuration and `options` as they were.

    On a CPU, the same program, options, releases and machine give the same bytes. With
    `keep_sources`, and on a GPU, where kernels are chosen by measuring, that is not
    promised: the manifest's digests tell two builds apart.

    Args:
        program: From `export`, or from `torch.export.export`.
        options: Inductor's, such as `{"max_autotune": True}`.
        keep_sources: Whether the generated code goes into the package, to be read.
        source: The model that the program is of, for the manifest: its `repo` and
            `revision`.
        kernels: What registers operators that the graph calls and is none that
            `use_kernel` loads, for the manifest: each with a `repo` and a `revision`.

    Raises:
        UnknownOption: Inductor has no such option.
        ConflictingOption: An option would put weights into the package, or fix
            them at their present values.
        NotCompilable: The graph holds what a package cannot promise, Inductor
            failed, or there is no C++ compiler.
        UnusableFolder: There is no folder for temporary files to compile in.
        ValueError: `source` has other fields than a `repo` and a `revision`.
    """
    if not isinstance(program, ExportedProgram):
        message = f"program must be an ExportedProgram, found {type(program).__name__}"
        raise TypeError(message)
    if source is not None and {*source} != {"repo", "revision"}:
        message = f"source must have a repo and a revision, found {dict(source)}"
        raise ValueError(message)
    merged = _merge(options or {})
    program, described, tensors = describe_program(program)
    name, device = described.contract.module, described.device
    graph = (
        program.module(check_guards=False) if _guards_optional() else program.module()
    )
    _own_constants(graph, program)
    _drop_constant_outputs(graph)
    args, kwargs = _form.as_called(graph, program)
    away = {n for n, t in tensors.items() if t.device.type != device}
    stranded = sorted(away - _carried_over(program, device))
    if stranded:
        where = f"{stranded[0]} is on {tensors[stranded[0]].device}"
        raise NotCompilable(name, f"{where}, and the graph on {device}; move it first")
    for constant in away:
        _move(graph, constant, device)
    # In the compiler's cache another process may be writing files of these names.
    with Folder() as folder:
        merged[_inductor.OUTPUT] = str(folder)
        try:
            with torch.no_grad(), _attention.compiling(described.attention):
                files = _inductor.aot_compile(graph, args, kwargs, merged)
        except Exception as error:
            raise NotCompilable(name, _reason(error)) from error
        if wrong := _fused.amiss(files, described.attention):
            raise NotCompilable(name, wrong)
        for file in files:
            if file.suffix == ".so":
                clear_executable_stack(file)
        archive = _package.build(
            files,
            described,
            options=options or {},
            keep_sources=keep_sources,
            source=source,
            kernels=_kernels.recorded(described.ops, kernels),
            private=[str(folder)],
        )
    return CompiledModel(archive)


def _merge(options: Mapping[str, Any]) -> dict[str, Any]:
    known = _inductor.known_options()
    unknown = tuple(name for name in options if name not in known)
    if unknown:
        close = [c for n in unknown for c in get_close_matches(n, known, n=1)]
        raise UnknownOption(unknown, tuple(close))
    for name, wanted in _inductor.PROMISES.items():
        if name in options and options[name] != wanted:
            raise ConflictingOption(name, wanted, options[name])
    return {**options, **_inductor.PROMISES}


def _guards_optional() -> bool:
    """Whether `ExportedProgram.module` can leave its guards out (torch 2.10 on)."""
    return "check_guards" in ExportedProgram.module.__code__.co_varnames


def _own_constants(graph: torch.fx.GraphModule, program: ExportedProgram) -> None:
    """Make buffers of plain tensors, so that constants keep their own names."""
    for spec in program.graph_signature.input_specs:
        if spec.kind is not InputKind.CONSTANT_TENSOR or spec.target is None:
            continue
        path, _, key = spec.target.rpartition(".")
        owner = graph.get_submodule(path)
        tensor = owner.__dict__.pop(key, None)
        if tensor is not None:
            owner.register_buffer(key, tensor, persistent=False)


def _drop_constant_outputs(graph: torch.fx.GraphModule) -> None:
    """Take what is no node out of the result; the contract puts it back."""
    (output,) = graph.graph.find_nodes(op="output")
    flat = output.args[0]
    kept = [item if isinstance(item, torch.fx.Node) else None for item in flat]
    output.args = (tuple(kept),)
    graph.recompile()


def _carried_over(program: ExportedProgram, device: str) -> set[str]:
    """Name the tensors of which the graph makes nothing but tensors on `device`."""
    nodes = {node.name: node for node in program.graph.nodes}
    found: set[str] = set()
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT or spec.target is None:
            continue
        values = [
            user.meta.get("val")
            for user in nodes[spec.arg.name].users
            if user.target is not _SAYS_WHERE
        ]
        if all(
            isinstance(value, torch.Tensor) and value.device.type == device
            for value in values
        ):
            found.add(spec.target)
    return found


def _move(graph: torch.fx.GraphModule, name: str, device: str) -> None:
    """Put a tensor of the graph on `device`: its container takes one device only."""
    path, _, key = name.rpartition(".")
    owner = graph.get_submodule(path)
    tensor = getattr(owner, key).detach().to(device)
    if key in owner._parameters:
        tensor = torch.nn.Parameter(tensor, requires_grad=False)
    setattr(owner, key, tensor)
    for node in graph.graph.find_nodes(op="call_function", target=_SAYS_WHERE):
        if node.args[0].target == name:  # it says where the tensor was
            graph.graph.erase_node(node)
    graph.recompile()


def _reason(error: Exception) -> str:
    chain: list[BaseException] = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    if any(_inductor.compiler_missing(e) for e in chain):
        compiler = os.environ.get("CXX", "g++")
        return f"no working C++ compiler was found (tried {compiler}; set CXX)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:6])}"
