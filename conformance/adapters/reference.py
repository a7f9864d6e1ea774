"""Adapter: `aoti_ref`, the reference in this repository."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import aoti_ref
from conformance.adapter import Dynamic, Info, Refused
from conformance.adapters._ranges import dims

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn


def _version() -> str:
    try:
        return version("aoti-conformance")
    except PackageNotFoundError:
        return "checkout"


info = Info(
    name="reference",
    version=_version(),
    url="https://github.com/aoti-conformance/aoti-conformance",
    issues="https://github.com/aoti-conformance/aoti-conformance/issues",
    packages=("aoti_ref",),
    cacheable=True,
)
capabilities = frozenset(
    {
        "calls",
        "dynamic",
        "fp8",
        "package",
        "peak",
        "regional",
        "restore",
        "variants",
        "worker",
    }
)

_FILE = "package.pt2"


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except aoti_ref.AotiError as error:
        raise Refused(str(error)) from error


@contextmanager
def capture(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with _refusals(), aoti_ref.capture(module, method) as call:
        yield call


@contextmanager
def capture_calls(module: nn.Module) -> Iterator[list[Any]]:
    with _refusals(), aoti_ref.capture_calls(module) as calls:
        yield calls


@_refusals()
def export(module: nn.Module, call: Any, *, dynamic: Dynamic | None = None) -> Any:
    return aoti_ref.export(module, call, dynamic=dims(dynamic))


@_refusals()
def compile(exported: Any, *, options: dict[str, Any] | None = None) -> Any:
    return aoti_ref.compile(exported, options=options)


@_refusals()
def apply(compiled: Any, module: nn.Module) -> None:
    aoti_ref.apply(compiled, module)


@_refusals()
def quantize(module: nn.Module, scheme: str) -> dict[str, str]:
    return aoti_ref.quantize(module, scheme, smallest=0).skipped


@_refusals()
def restore(module: nn.Module) -> None:
    aoti_ref.restore(module)


@_refusals()
def save(compiled: Any, folder: Path) -> None:
    compiled.save(folder / _FILE)


@_refusals()
def load(folder: Path) -> Any:
    return aoti_ref.load(folder / _FILE)


@_refusals()
def compile_regions(
    module: nn.Module,
    run: Callable[[], object],
    *,
    blocks: Sequence[str] | None = None,
    dynamic: Dynamic | None = None,
    leave_eager: bool = False,
    progress: bool | Callable[[int, int, str], object] = False,
) -> Any:
    with aoti_ref.capture_regions(module, blocks) as calls:
        run()
    return aoti_ref.compile_regions(
        module,
        calls,
        dynamic=dims(dynamic),
        on_failure="eager" if leave_eager else "raise",
        progress=progress,
    )


def eager_blocks(compiled: Any) -> Collection[str]:
    return list(compiled.eager)


def peaks(compiled: Any) -> Mapping[str, int]:
    return {"cpu": compiled.peak.host_bytes, "cuda": compiled.peak.device_bytes}


@_refusals()
def combine(models: Sequence[Any]) -> Any:
    return aoti_ref.CompiledVariants(models)


@_refusals()
def compile_variants(
    module: nn.Module, calls: Sequence[Any], *, dynamic: Dynamic | None = None
) -> Any:
    return aoti_ref.compile_variants(
        module, calls, dynamic=dims(dynamic), progress=False
    )


def worker(
    function: Callable[..., Any],
    *,
    duration_s: float | None = None,
    reuse: bool = False,
) -> Callable[..., Any]:
    return aoti_ref.gpu_task(function, duration=duration_s, reuse=reuse)
