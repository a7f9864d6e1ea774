"""Adapter: bare torch, used as its AOTInductor tutorial does.

`aoti_compile_and_package`, `aoti_load_package`, and the loaded model in the place of
`forward`. torch has no verb that captures a call.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import torch._inductor

from conformance.adapter import Dynamic, Info, Refused, Unsupported
from conformance.adapters import _labels
from conformance.ranges import dynamic_shapes

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

info = Info(
    name="torch_aoti",
    version=torch.__version__,
    url="https://github.com/pytorch/pytorch",
    issues="https://github.com/pytorch/pytorch/issues",
    cacheable=True,
    bakes_weights=True,
)

capabilities = frozenset({"dynamic", "labels", "package"})

relabel = _labels.relabel

_FILE = "model.pt2"


def capture(_module: nn.Module, _method: str = "forward") -> NoReturn:
    raise Unsupported("torch has no verb that captures a call")


def export(module: nn.Module, call: Any, *, dynamic: Dynamic | None = None) -> Any:
    try:
        return torch.export.export(
            module,
            call.args,
            dict(call.kwargs),
            dynamic_shapes=dynamic_shapes(module, call, dynamic),
        )
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {error}") from error


def compile(
    exported: ExportedProgram, *, options: dict[str, Any] | None = None
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        try:
            torch._inductor.aoti_compile_and_package(
                exported, package_path=str(path), inductor_configs=options
            )
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        return path.read_bytes()


def apply(compiled: bytes, module: nn.Module) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        path.write_bytes(compiled)
        module.forward = torch._inductor.aoti_load_package(str(path))


def save(compiled: bytes, folder: Path) -> None:
    (folder / _FILE).write_bytes(compiled)


def load(folder: Path) -> bytes:
    return (folder / _FILE).read_bytes()
