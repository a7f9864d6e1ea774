"""Adapter: `aoti_ref`, the reference in this repository."""

from __future__ import annotations

import json
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import aoti_ref
from aoti_ref import _archive, _manifest
from conformance.adapter import Dynamic, Info, Refused
from conformance.ranges import dims

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
        "attention",
        "calls",
        "dynamic",
        "fp8",
        "hub",
        "kernels",
        "labels",
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
def export_attending(
    module: nn.Module, call: Any, backend: str, *, dynamic: Dynamic | None = None
) -> Any:
    return aoti_ref.export(module, call, dynamic=dims(dynamic), attention=backend)


def attention(compiled: Any) -> Collection[str]:
    return list(compiled.manifest["attention"])


def describe(compiled: Any) -> str:
    return repr(compiled)


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


def relabel(
    folder: Path,
    *,
    compute_capability: str | None = None,
    newer_format: bool = False,
    ops: Sequence[str] = (),
) -> None:
    fields, members = _taken_apart(folder)
    fields["format"] += "99" if newer_format else ""
    fields["ops"] += ops
    fields["needs"]["compute_capability"] = compute_capability
    _put_together(folder, fields, members)


def reseal(folder: Path) -> None:
    _put_together(folder, *_taken_apart(folder))


def _taken_apart(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read the fields of a manifest, and the other members."""
    path = folder / _FILE
    members = {
        name.partition("/")[2]: data
        for name, data in _archive.read(path.read_bytes(), str(path)).items()
    }
    return json.loads(members.pop(_manifest.NAME)), members


def _put_together(
    folder: Path, fields: dict[str, Any], members: dict[str, bytes]
) -> None:
    form = fields.pop("format", _manifest.FORMAT)
    sealed = {_manifest.NAME: _manifest.seal(fields, members, form), **members}
    named = {f"archive/{name}": data for name, data in sealed.items()}
    (folder / _FILE).write_bytes(_archive.write(named))


@_refusals()
def compile_regions(
    module: nn.Module,
    run: Callable[[], object],
    *,
    blocks: Sequence[str] | None = None,
    dynamic: Dynamic | None = None,
    leave_eager: bool = False,
    jobs: int = 1,
    progress: bool | Callable[[int, int, str], object] = False,
) -> Any:
    with aoti_ref.capture_regions(module, blocks) as calls:
        run()
    return aoti_ref.compile_regions(
        module,
        calls,
        dynamic=dims(dynamic),
        on_failure="eager" if leave_eager else "raise",
        jobs=jobs,
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


@_refusals()
def publish(
    compiled: Any,
    repo_id: str,
    *,
    variant: str = "",
    model: str = "",
    model_revision: str = "",
    figures: Mapping[str, str] | None = None,
) -> str:
    pushed = aoti_ref.push_to_hub(
        compiled,
        repo_id,
        variant=variant,
        model=model,
        model_revision=model_revision,
        figures=figures,
    )
    return pushed.revision


@_refusals()
def fetch(
    repo_id: str,
    *,
    revision: str | None = None,
    trust: Sequence[str] = (),
    variant: str = "",
) -> Any:
    return aoti_ref.load_from_hub(
        repo_id, revision=revision, trust=trust, variant=variant
    )


def origin(compiled: Any) -> tuple[str, str]:
    return compiled.source.repo_id, compiled.source.revision


@_refusals()
def use_kernel(
    repo_id: str,
    *,
    folder: Path | None = None,
    revision: str | None = None,
    trust: Sequence[str] = (),
) -> Any:
    return aoti_ref.use_kernel(repo_id, folder=folder, revision=revision, trust=trust)


@_refusals()
def kernel_revision(folder: Path) -> str:
    return aoti_ref.kernel_revision(folder)
