"""The operators that backends of attention are, and how compiled code calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

LEFT = "default"  # the word for calls that torch chooses for while it compiles

# The operators that the fused ones are; "math" is many of the usual ones.
_OPERATORS = {
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_flash_attention_for_cpu": "flash",
    "_scaled_dot_product_efficient_attention": "efficient",
    "_scaled_dot_product_cudnn_attention": "cudnn",
}


def backend(target: Any) -> str:
    """Name the backend that an operator is; empty if it is none."""
    if not isinstance(target, torch._ops.OpOverload):
        return ""
    name: str = target.name()  # type: ignore[no-untyped-call]
    return _OPERATORS.get(name.partition("::")[2].partition(".")[0], "")


def amiss(files: Iterable[Path], named: Sequence[str]) -> str:
    """Say in what a compiled graph differs from what it was to call.

    Args:
        files: What the compiler made.
        named: From `backends`.

    Returns:
        What is wrong; empty if nothing is, or if torch was free to choose.
    """
    if LEFT in named or not named:
        return ""
    # Operators without a function in the library's interface stand in a file beside it.
    held = [f.read_bytes() for f in files if f.suffix in (".so", ".json")]
    found = {
        name
        for op, name in _OPERATORS.items()
        if any(spelt.encode() in data for spelt in _spellings(op) for data in held)
    }
    if found == set(named) - {"math"}:
        return ""
    return f"it was to attend with {listed(named)}, and calls {listed(found)}"


def _spellings(operator: str) -> tuple[str, ...]:
    """Spell an operator as compiled code does, on every device."""
    devices = "cpu", "cuda"
    names = [f"aoti_torch_{device}_{operator}" for device in devices]
    return (*names, f"aten::{operator}", f"torch.ops.aten.{operator}")


def listed(names: Iterable[str]) -> str:
    found = sorted(names)
    return " and ".join(found) or "none"
