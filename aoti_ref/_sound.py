"""Whether a manifest's fields are what they should be, before anything relies on it.

A manifest that was sealed anew vouches for itself, whatever it says. What is not
looked at here, and in `_written`, would end in some later step as a KeyError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import torch

from aoti_ref import _conditions, _tree
from aoti_ref._contract import PYTHON_NUMBERS, Size, TensorSpec, ValueSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aoti_ref._contract import Contract
    from aoti_ref._weights import Constant

_MOST = 1 << 62  # for a size or a stride: what torch has is a signed 64-bit number
# The key of an entry is of another kind, and spelt as `_values.key_of` does it.
_STEPS = {
    "attribute": (str,),
    "key": (str, int, bool),
    "entry": (str,),
    "index": (int,),
}


def check_lists(manifest: Mapping[str, Any]) -> None:
    """Check what is a list or a table of words, and where tensors hang.

    Raises:
        TypeError, ValueError: With the field that is something else.
    """
    _device("device", manifest["device"])
    _words("ops", manifest["ops"])
    _words("attention", manifest["attention"])
    _words("needs.cpu", manifest["needs"]["cpu"])
    _words("needs.libraries", list(manifest["needs"]["libraries"].values()))
    for group in manifest["ties"]:
        _words("ties", group)
    for kernel in manifest["kernels"]:
        _words("kernels", [kernel["repo"], kernel["revision"], kernel["digest"]])
        _words("kernels", kernel["ops"])
    names = {constant["name"] for constant in manifest["constants"]}
    for name, (child, steps, whole) in manifest["places"].items():
        _words("places", [name, child, whole])
        _words("places", [kind for kind, _ in steps])
        keys = all(type(key) in _STEPS.get(kind, ()) for kind, key in steps)
        if name not in names or not keys or len(steps) < (2 if whole else 1):
            _refuse("places", name)


def check_constant(constant: Constant) -> None:
    """Check a constant; a literal's bytes are checked with them.

    Raises:
        TypeError, ValueError: With what is something else.
    """
    _words("constants", [constant.name])
    _device("constants", constant.device)
    if not _is_dtype(constant.dtype):
        _refuse("constants", f"{constant.name} of {constant.dtype!r}")
    _sizes("constants", constant.shape)
    _sizes("constants", constant.stride)
    if len(constant.shape) != len(constant.stride):
        _refuse("constants", f"the strides of {constant.name}")
    if not {type(constant.literal), type(constant.carried)} <= {bool}:
        _refuse("constants", f"what is said of {constant.name}")


def check_contract(contract: Contract, constants: list[Constant]) -> None:
    """Check what a call must look like, and what is written into.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: With what is not as it
            should be.
    """
    _words("contract", [contract.module, contract.result])
    if type(contract.mutates_inputs) is not bool:
        _refuse("contract.mutates_inputs", contract.mutates_inputs)
    held = {constant.name for constant in constants if not constant.literal}
    if unknown := [name for name in contract.writes if name not in held]:
        _refuse("contract.writes", unknown)
    leaves = sum(_leaves(tree) for tree in contract.arguments.values())
    if leaves != len(contract.leaves):
        _refuse("contract.arguments", f"{leaves} leaves")
    for name, symbol in contract.symbols.items():
        _words("contract.symbols", [name, symbol.name])
        ends = (symbol.min, symbol.max)
        if not all(type(n) is int and -(1 << 63) <= n < 1 << 63 for n in ends):
            _refuse("contract.symbols", ends)  # no bound is the largest number
    for text in contract.conditions:
        if not _conditions.is_one(text, contract.symbols.keys()):
            _refuse("contract.conditions", text)
    _check_leaves(contract)


def _check_leaves(contract: Contract) -> None:
    for leaf in contract.leaves:
        if isinstance(leaf, TensorSpec):
            _check_tensor(leaf, contract)
        elif not isinstance(leaf, ValueSpec):
            _refuse("contract.leaves", leaf)
    for out in contract.outputs:
        known = _is_dtype(out) or out in PYTHON_NUMBERS.values()
        if not isinstance(out, ValueSpec) and not known:
            _refuse("contract.outputs", out)


def _check_tensor(spec: TensorSpec, contract: Contract) -> None:
    _device("contract.leaves", spec.device)
    if not _is_dtype(spec.dtype):
        _refuse("contract.leaves", spec.dtype)
    if sorted(spec.order) != list(range(len(spec.sizes))):
        _refuse("contract.leaves", f"an order {spec.order}")
    for size in spec.sizes:
        numbers = size[1:] if isinstance(size, Size) else (size,)
        if not all(type(n) is int and -_MOST < n < _MOST for n in numbers):
            _refuse("contract.leaves", size)
        if isinstance(size, Size) and size.symbol not in contract.symbols:
            _refuse("contract.leaves", size.symbol)


def _leaves(tree: Any) -> int:
    """Count the leaves of an argument's structure, as `_tree.draw` writes it."""
    if tree == _tree.LEAF:
        return 1
    kind, children = tree
    if type(kind) is not str or type(children) is not list:
        _refuse("contract.arguments", tree)
    if kind != "dict":
        return sum(map(_leaves, children))
    if not all(type(key) in (str, int) for key, _ in children):
        _refuse("contract.arguments", tree)
    return sum(_leaves(child) for _, child in children)


def _is_dtype(name: object) -> bool:
    return type(name) is str and isinstance(getattr(torch, name, None), torch.dtype)


def _device(field: str, found: Any) -> None:
    try:
        known = torch.device(found).type == found
    except RuntimeError:
        known = False
    if not known:
        _refuse(field, found)


def _words(field: str, found: Any) -> None:
    if type(found) is not list or not all(type(word) is str for word in found):
        _refuse(field, found)


def _sizes(field: str, found: tuple[Any, ...]) -> None:
    if not all(type(size) is int and 0 <= size < _MOST for size in found):
        _refuse(field, found)


def _refuse(field: str, found: object) -> NoReturn:
    message = f"{field} has {found!r}"
    raise ValueError(message)
