"""A compiled graph without weights: one archive that says what it is.

The archive is torch's .pt2 (its own loader opens it too) with a manifest beside the
graph: contract, constants, torch's version, and a sha256 for every member.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref import _containers, _inductor, _library
from aoti_ref._contract import (
    Contract,
    EnumMember,
    Size,
    Symbol,
    TensorSpec,
    ValueSpec,
)
from aoti_ref._errors import BrokenPackage
from aoti_ref._kernels import Kernel
from aoti_ref._weights import Constant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FORMAT = "aoti_ref/1"
_MANIFEST = "aoti_ref/manifest.json"
_LITERALS = "aoti_ref/literals/"
_GRAPH = "data/aotinductor/model"
_EXTRA = "extra"


def build(
    files: Sequence[Path],
    contract: Contract,
    constants: Sequence[Constant],
    ties: Sequence[Sequence[str]],
    literals: Mapping[str, torch.Tensor],
    values: Mapping[str, Any],
    places: Mapping[str, _containers.Place],
    device: str,
    ops: Sequence[str] = (),
    kernels: Sequence[Kernel] = (),
) -> bytes:
    """Make the archive of a compiled graph.

    Args:
        files: What the compiler made; sources are left out.
        contract: What a call must look like.
        constants: What the graph needs.
        ties: Names of one and the same tensor, group by group.
        literals: Constants that no module holds, by name.
        values: Plain values of the module that its code read, by name.
        places: Where literals hang in containers of the module, by name.
        device: The type of the device that it was compiled for.
        ops: The operators in the graph that are not torch's own.
        kernels: What they are from.
    """
    kept = [file for file in files if file.suffix != ".cpp"]
    blobs = {_LITERALS + name: _text(tensor) for name, tensor in literals.items()}
    digests = {file.name: _sha256(file.read_bytes()) for file in kept}
    digests |= {name: _sha256(text.encode()) for name, text in blobs.items()}
    manifest = {
        "format": FORMAT,
        "torch": torch.__version__,
        "device": device,
        "contract": _encode_contract(contract),
        "constants": [list(constant) for constant in constants],
        "ties": [list(group) for group in ties],
        "values": dict(values),
        "places": dict(places),
        "ops": list(ops),
        "kernels": [list(kernel) for kernel in kernels],
        "sha256": digests,
    }
    return _inductor.pack(kept, {_MANIFEST: json.dumps(manifest), **blobs})


class Package:
    """An archive that was read and found whole.

    Args:
        archive: The bytes of the archive.
        origin: Where they came from, for messages.

    Raises:
        BrokenPackage: It is no archive, lacks a member, was changed, or was
            made by another format or another torch.
    """

    def __init__(self, archive: bytes, origin: str) -> None:
        self.archive = archive
        members = _members(archive, origin)
        manifest = _manifest(members, origin)
        self.contract = _decode_contract(manifest["contract"])
        self.device: str = manifest["device"]
        self.constants = [
            Constant(name, dtype, tuple(shape), tuple(stride), *rest)
            for name, dtype, shape, stride, *rest in manifest["constants"]
        ]
        self.ties: list[list[str]] = manifest["ties"]
        self.values: dict[str, Any] = manifest["values"]
        self.ops: list[str] = manifest.get("ops", [])
        self.kernels = [Kernel.read(found) for found in manifest.get("kernels", [])]
        self.places = {
            name: _containers.Place(child, tuple((kind, key) for kind, key in steps))
            for name, (child, steps) in manifest["places"].items()
        }
        self.literals = {
            c.name: _tensor(members[_LITERALS + c.name], c)
            for c in self.constants
            if c.literal
        }
        self._digest = _sha256(archive)

    def runner(self, device: torch.device) -> _inductor.Runner:
        """Make a runner of the graph, which is unpacked once per process at most.

        Args:
            device: Where its constants live.

        Raises:
            UnusableFolder: The folder for temporary files cannot be used. The next
                call tries again.
        """
        library = _library.library(self._digest)
        return library.runner(self._files, device)

    def _files(self) -> dict[str, bytes]:
        members = _members(self.archive, "package")
        return {name: data for name, data in members.items() if "/" not in name}


def _members(archive: bytes, origin: str) -> dict[str, bytes]:
    """Read the members that are the graph's or ours, by name below their folder."""
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for entry in opened.namelist():
                inside = PurePosixPath(entry).parts[1:]  # below the archive's root
                path = "/".join(inside)
                if path.startswith(f"{_GRAPH}/"):
                    members[inside[-1]] = opened.read(entry)
                elif path.startswith(f"{_EXTRA}/aoti_ref/"):
                    members[path.removeprefix(f"{_EXTRA}/")] = opened.read(entry)
    except (zipfile.BadZipFile, EOFError) as error:
        raise BrokenPackage(origin, f"not a whole zip archive ({error})") from error
    return members


def _manifest(members: Mapping[str, bytes], origin: str) -> dict[str, Any]:
    if _MANIFEST not in members:
        raise BrokenPackage(
            origin, f"it has no {_MANIFEST}, so aoti_ref did not make it"
        )
    manifest: dict[str, Any] = json.loads(members[_MANIFEST])
    if manifest["format"] != FORMAT:
        found = manifest["format"]
        raise BrokenPackage(origin, f"its format is {found!r}, wanted {FORMAT!r}")
    made, here = (
        _release(version) for version in (manifest["torch"], torch.__version__)
    )
    if made != here:
        reason = f"compiled with torch {manifest['torch']}, this is {torch.__version__}"
        raise BrokenPackage(origin, f"{reason}; compile it again")
    for name, digest in manifest["sha256"].items():
        if name not in members:
            raise BrokenPackage(origin, f"member {name} is missing")
        if _sha256(members[name]) != digest:
            raise BrokenPackage(origin, f"member {name} was changed (sha256 differs)")
    return manifest


def _release(version: str) -> list[str]:
    return str(version).split("+")[0].split(".")[:2]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _text(tensor: torch.Tensor) -> str:
    """Write a tensor's bytes as base64: torch's archive keeps texts beside a graph."""
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return base64.b64encode(bytes(raw.tolist())).decode()


def _tensor(text: bytes, constant: Constant) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, constant.dtype)
    data = bytearray(base64.b64decode(text))
    made = torch.empty_strided(constant.shape, constant.stride, dtype=dtype)
    if data:
        made.copy_(torch.frombuffer(data, dtype=dtype).reshape(constant.shape))
    return made


def _encode_contract(contract: Contract) -> dict[str, Any]:
    return {
        "module": contract.module,
        "arguments": contract.arguments,
        "leaves": [
            _encode_value(leaf) if isinstance(leaf, ValueSpec) else _encode_tensor(leaf)
            for leaf in contract.leaves
        ],
        "symbols": {name: list(symbol) for name, symbol in contract.symbols.items()},
        "conditions": contract.conditions,
        "outputs": [
            _encode_value(output) if isinstance(output, ValueSpec) else output
            for output in contract.outputs
        ],
        "result": contract.result,
        "mutates_inputs": contract.mutates_inputs,
        "fixed": {n: _encode_value(ValueSpec(v)) for n, v in contract.fixed.items()},
        "writes": contract.writes,
    }


def _encode_tensor(spec: TensorSpec) -> dict[str, Any]:
    sizes = [list(size) if isinstance(size, Size) else size for size in spec.sizes]
    return {
        "dtype": spec.dtype,
        "device": spec.device,
        "sizes": sizes,
        "order": spec.order,
    }


_TORCH_VALUES = (torch.dtype, torch.layout, torch.memory_format)


def _encode_value(spec: ValueSpec) -> dict[str, Any]:
    value = spec.value
    if isinstance(value, _TORCH_VALUES):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, EnumMember):
        return {"enum": list(value)}
    return {"value": value}


def _decode_leaf(found: Any) -> Any:
    if isinstance(found, str):
        return found
    if "enum" in found:
        return ValueSpec(EnumMember(*found["enum"]))
    if "torch" in found:
        return ValueSpec(getattr(torch, found["torch"]))
    if "dtype" in found:
        sizes = (Size(*s) if isinstance(s, list) else s for s in found["sizes"])
        order = tuple(found["order"])
        return TensorSpec(found["dtype"], found["device"], tuple(sizes), order)
    if "device" in found:
        return ValueSpec(torch.device(found["device"]))
    return ValueSpec(found["value"])


def _decode_contract(found: dict[str, Any]) -> Contract:
    return Contract(
        module=found["module"],
        arguments=found["arguments"],
        leaves=tuple(_decode_leaf(leaf) for leaf in found["leaves"]),
        symbols={name: Symbol(*symbol) for name, symbol in found["symbols"].items()},
        conditions=tuple(found["conditions"]),
        outputs=tuple(_decode_leaf(output) for output in found["outputs"]),
        result=found["result"],
        mutates_inputs=found["mutates_inputs"],
        fixed={name: _decode_leaf(v).value for name, v in found["fixed"].items()},
        writes=tuple(found["writes"]),
    )
