"""What a program is to a package: its contract, its constants, and their ties."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.export.graph_signature import InputKind

from aoti_ref import _attention, _contract, _derive, _package
from aoti_ref._operators import custom_operators
from aoti_ref._subclasses import taken_apart
from aoti_ref._weights import LITERAL, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch.export import ExportedProgram


def describe_program(
    program: ExportedProgram,
) -> tuple[ExportedProgram, _package.Described, dict[str, torch.Tensor]]:
    """Say what a package of `program` takes.

    Returns:
        The program with plain tensors only, which is what a package can be made of;
        what is said of it; and the tensors that it reads, by name.

    Raises:
        NotCompilable: The graph holds what a package cannot promise.
    """
    meta = program.graph_module.meta
    name = meta.get(_contract.MODULE, "the program")
    program = taken_apart(program, name)
    meta = program.graph_module.meta
    contract = _derive.derive(program, name)
    tensors = _tensors(program)
    literals = {n: t for n, t in tensors.items() if n.startswith(LITERAL)}
    device = _device(tensors, contract)
    described = _package.Described(
        contract,
        [describe(n, t, device, literal=n in literals) for n, t in tensors.items()],
        _ties(tensors),
        literals,
        meta.get(_contract.VALUES, {}),
        meta.get(_contract.PLACES, {}),
        device,
        custom_operators(program),
        _attention.backends(program),
        meta.get(_contract.GROUP),
    )
    return program, described, tensors


def _tensors(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Give every tensor that the graph holds, under all of its names."""
    kinds = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
    held = {**program.constants, **program.state_dict}
    used = [s.target for s in program.graph_signature.input_specs if s.kind in kinds]
    tensors = {name: held[name] for name in used if name is not None}
    here = {_identity(tensor) for tensor in tensors.values()}
    tied = {n: t for n, t in program.state_dict.items() if _identity(t) in here}
    return tensors | tied


def _identity(tensor: torch.Tensor) -> tuple[Any, ...]:
    place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    # Empty tensors share the address 0 and nothing else.
    own = id(tensor) if not tensor.numel() else 0
    return (*place, tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype, own)


def _ties(tensors: Mapping[str, torch.Tensor]) -> list[list[str]]:
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in tensors.items():
        groups.setdefault(_identity(tensor), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _device(tensors: Mapping[str, torch.Tensor], contract: _contract.Contract) -> str:
    devices = {tensor.device.type for tensor in tensors.values()}
    specs = (x for x in contract.leaves if isinstance(x, _contract.TensorSpec))
    devices |= {spec.device for spec in specs}
    return next(iter(sorted(devices - {"cpu"})), "cpu")
