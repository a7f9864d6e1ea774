"""The layer: export a module for a call, compile it, put the result into `forward`.

It has two bugs, and known.toml owns up to them:

1. Nothing compares a call with the one that the graph was compiled for.
2. The weights are those of the time of compiling.
"""

from __future__ import annotations

import inspect
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


class Exported(NamedTuple):
    """A module as torch.export sees it."""

    program: torch.export.ExportedProgram


class Compiled(NamedTuple):
    """A package of AOTInductor."""

    package: bytes


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
    fixed = {n: pytree.tree_map(lambda _: None, value) for n, value in given.items()}
    shapes = {**fixed, **(sizes or {})}
    return Exported(torch.export.export(module, (), given, dynamic_shapes=shapes))


def compile(exported: Exported, options: Mapping[str, Any] | None = None) -> Compiled:
    """Compile what `export` returned; `options` are Inductor's."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        aoti_compile_and_package(
            exported.program,
            package_path=str(path),
            inductor_configs=dict(options or {}),
        )
        return Compiled(path.read_bytes())


def apply(compiled: Compiled, module: nn.Module) -> None:
    """Make `module(...)` run `compiled`."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        path.write_bytes(compiled.package)
        model = aoti_load_package(str(path))
    signature = inspect.signature(module.forward)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return model(**_named(signature, args, kwargs))

    module.forward = forward


def save(compiled: Compiled, folder: Path) -> None:
    """Write `compiled` into a folder."""
    (folder / _FILE).write_bytes(compiled.package)


def load(folder: Path) -> Compiled:
    """Read what `save` wrote."""
    return Compiled((folder / _FILE).read_bytes())


def _named(
    signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Give every argument by its name, those that have a default among them.

    What torch.export takes as no input is left out, and keeps its default.
    """
    given = signature.bind(*args, **kwargs)
    given.apply_defaults()
    kinds = (torch.Tensor, bool, int, float, str, type(None))
    return {
        name: value
        for name, value in given.arguments.items()
        if all(isinstance(leaf, kinds) for leaf in pytree.tree_leaves(value))
    }
