"""A contract as JSON, and back: what a manifest says of calls."""

from __future__ import annotations

from typing import Any

import torch

from aoti_ref._contract import (
    Contract,
    EnumMember,
    Size,
    Symbol,
    TensorSpec,
    ValueSpec,
)


def encode(contract: Contract) -> dict[str, Any]:
    """Write a contract down."""
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
        value = getattr(torch, found["torch"])
        if not isinstance(value, _TORCH_VALUES):
            message = f"torch.{found['torch']} is no dtype, layout or memory format"
            raise TypeError(message)
        return ValueSpec(value)
    if "dtype" in found:
        sizes = (Size(*s) if isinstance(s, list) else s for s in found["sizes"])
        order = tuple(found["order"])
        return TensorSpec(found["dtype"], found["device"], tuple(sizes), order)
    if "device" in found:
        return ValueSpec(torch.device(found["device"]))
    return ValueSpec(found["value"])


def decode(found: dict[str, Any]) -> Contract:
    """Read what `encode` wrote.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: It is something else.
    """
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
