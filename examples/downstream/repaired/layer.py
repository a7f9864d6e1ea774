"""The layer, repaired: calls are compared with the contract, and weights are bound."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch._inductor import aoti_compile_and_package, aoti_load_package
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

_FILE = "model.pt2"
_CONTRACT = "contract.json"
# The module's own tensors serve as constants, so none may be folded or left out.
_BOUND = {
    "always_keep_tensor_constants": True,
    "aot_inductor.package_constants_in_so": False,
    "joint_graph_constant_folding": False,
}


class Misfit(ValueError):
    """A call is not one that the graph was compiled for."""


class Exported(NamedTuple):
    """A module as torch.export sees it, and the calls that it is good for."""

    program: torch.export.ExportedProgram
    contract: dict[str, Any]


class Compiled(NamedTuple):
    """A package of AOTInductor without weights, and the calls that it is good for."""

    package: bytes
    contract: dict[str, Any]


def export(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    sizes: Mapping[str, Any] | None = None,
) -> Exported:
    """Export `module` for a call; `sizes` has a Dim per argument and dimension."""
    given = _named(inspect.signature(module.forward), args, kwargs)
    # torch wants a table in which every argument stands.
    inputs = _inputs(given)
    fixed = {n: pytree.tree_map(lambda _: None, value) for n, value in inputs.items()}
    shapes = {**fixed, **(sizes or {})}
    program = torch.export.export(module, (), inputs, dynamic_shapes=shapes)
    contract = _spelt(given)
    for name, dims in (sizes or {}).items():
        for dim, size in dims.items():
            contract[f"['{name}']"][2][dim] = [size.__name__, size.min, size.max]
    return Exported(program, contract)


def compile(exported: Exported, options: Mapping[str, Any] | None = None) -> Compiled:
    """Compile what `export` returned; `options` are Inductor's."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        aoti_compile_and_package(
            exported.program,
            package_path=str(path),
            inductor_configs={**_BOUND, **(options or {})},
        )
        return Compiled(path.read_bytes(), exported.contract)


def apply(compiled: Compiled, module: nn.Module) -> None:
    """Make `module(...)` run `compiled` with the weights of `module`."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        path.write_bytes(compiled.package)
        model = aoti_load_package(str(path))
    signature = inspect.signature(module.forward)
    names = model.get_constant_fqns()

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = _named(signature, args, kwargs)
        _check(given, compiled.contract)
        tensors: dict[str, torch.Tensor] = {
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
        }
        # At each call, because a weight may have been exchanged since the last one.
        model.load_constants(
            {name: tensors[name] for name in names},
            check_full_update=True,
            user_managed=True,
        )
        return model(**_inputs(given))

    module.forward = forward


def save(compiled: Compiled, folder: Path) -> None:
    """Write `compiled` into a folder."""
    (folder / _FILE).write_bytes(compiled.package)
    text = json.dumps(compiled.contract)
    (folder / _CONTRACT).write_text(text, encoding="utf-8")


def load(folder: Path) -> Compiled:
    """Read what `save` wrote."""
    contract = json.loads((folder / _CONTRACT).read_text(encoding="utf-8"))
    return Compiled((folder / _FILE).read_bytes(), contract)


def _named(
    signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Give every argument by its name, those that have a default among them."""
    given = signature.bind(*args, **kwargs)
    given.apply_defaults()
    return dict(given.arguments)


def _inputs(given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what torch.export takes as no input: the graph has its default."""
    kinds = (torch.Tensor, bool, int, float, str, type(None))
    return {
        name: value
        for name, value in given.items()
        if all(isinstance(leaf, kinds) for leaf in pytree.tree_leaves(value))
    }


def _spelt(given: Mapping[str, Any]) -> dict[str, Any]:
    """Spell every leaf: a tensor as dtype, device and sizes, else type and value."""
    leaves, _ = pytree.tree_flatten_with_path(dict(given))
    return {pytree.keystr(path): _spelling(leaf) for path, leaf in leaves}


def _spelling(leaf: Any) -> list[Any]:
    if isinstance(leaf, torch.Tensor):
        return [str(leaf.dtype), str(leaf.device), list(leaf.shape)]
    return [type(leaf).__name__, repr(leaf)]


def _check(given: Mapping[str, Any], contract: Mapping[str, Any]) -> None:
    found = _spelt(given)
    seen: dict[str, int] = {}
    wrong = [
        f"{path} wants {contract.get(path)}, found {found.get(path)}"
        for path in sorted(found.keys() | contract.keys())
        if not _fits(found.get(path), contract.get(path), seen)
    ]
    if wrong:
        raise Misfit("; ".join(wrong))


def _fits(found: Any, wanted: Any, seen: dict[str, int]) -> bool:
    """Whether a leaf is as the contract has it; equal names of sizes mean equal sizes.

    Only of a tensor are there three parts, and only its sizes may be ranges.
    """
    if not (found and wanted) or found[:2] != wanted[:2] or len(found) != len(wanted):
        return False
    sizes = zip(*found[2:], *wanted[2:], strict=False)
    same_rank = [len(part) for part in found[2:]] == [len(part) for part in wanted[2:]]
    return same_rank and all(_within(size, want, seen) for size, want in sizes)


def _within(size: int, wanted: Any, seen: dict[str, int]) -> bool:
    if isinstance(wanted, int):
        return size == wanted
    name, low, high = wanted
    return bool(low <= size <= high) and seen.setdefault(name, size) == size
