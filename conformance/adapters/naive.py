"""Adapter: the layer that everybody writes first, and that checks nothing.

A `forward` that records, `torch.export`, AOTInductor, and the loaded model in the
place of `forward`, bound to whatever tensors have the right names. It is on the board
to show what the clauses find, so it has no file of known deviations.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch._inductor

from conformance.adapter import Info, Refused
from conformance.adapters import torch_aoti

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn
    from torch.export import ExportedProgram

info = Info(
    name="naive",
    version=torch.__version__,
    url="https://github.com/aoti-conformance/aoti-conformance",
    issues="https://github.com/aoti-conformance/aoti-conformance/issues",
    cacheable=True,
)
capabilities = frozenset({"calls", "dynamic", "package", "restore"})

export = torch_aoti.export

_FILE = "model.pt2"
_WITHOUT_WEIGHTS = {"aot_inductor.package_constants_in_so": False}


class Stop(Exception):
    """Ends the block once there is a call."""


@contextmanager
def capture(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    record = SimpleNamespace(args=(), kwargs={})
    original = getattr(module, method)

    def recording(*args: Any, **kwargs: Any) -> Any:
        record.args, record.kwargs = args, kwargs
        raise Stop

    setattr(module, method, recording)
    with suppress(Stop):
        yield record
    setattr(module, method, original)


@contextmanager
def capture_calls(module: nn.Module) -> Iterator[list[Any]]:
    records: list[Any] = []
    original = module.forward

    def recording(*args: Any, **kwargs: Any) -> Any:
        records.append(SimpleNamespace(args=args, kwargs=kwargs))
        return original(*args, **kwargs)

    module.forward = recording
    yield records
    module.forward = original


def compile(
    exported: ExportedProgram, *, options: dict[str, Any] | None = None
) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        try:
            torch._inductor.aoti_compile_and_package(
                exported,
                package_path=str(path),
                inductor_configs={**_WITHOUT_WEIGHTS, **(options or {})},
            )
        except Exception as error:
            raise Refused(f"{type(error).__name__}: {error}") from error
        return path.read_bytes()


def apply(compiled: bytes, module: nn.Module) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        path.write_bytes(compiled)
        model = torch._inductor.aoti_load_package(str(path))
    weights = module.state_dict()
    known = {n: weights[n] for n in model.get_constant_fqns() if n in weights}
    model.load_constants(known, check_full_update=False, user_managed=True)
    module.forward = model


def restore(module: nn.Module) -> None:
    del module.forward


def save(compiled: bytes, folder: Path) -> None:
    (folder / _FILE).write_bytes(compiled)


def load(folder: Path) -> bytes:
    return (folder / _FILE).read_bytes()
