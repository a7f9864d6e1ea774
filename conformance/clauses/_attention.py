"""What clauses on attention share: which backend a compiled graph calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile

from conformance import device, gauges
from conformance.models import attention
from conformance.models.attention import Attending
from conformance.workbench import Pair, applied_copy, assert_agrees_or_refuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

BACKENDS = ["math", "flash"]
ON_GPUS = [*BACKENDS, "efficient", "cudnn"]

# Functions of libtorch that compiled code imports, or operators that it looks up.
_OPERATORS = {
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_efficient_attention": "efficient",
    "_scaled_dot_product_cudnn_attention": "cudnn",
}
# How the backends call their kernels; the first that fits counts.
_KERNELS = {
    "cudnn": "cudnn",
    "pytorch_flash": "flash",
    "flash_fwd": "flash",
    "fmha_cutlass": "efficient",
    "attentionkernel": "efficient",
}


def twins(
    impl: Adapter, cache: PackageCache, backend: str, seed: int, **choices: Any
) -> Pair:
    """Give an Attending, and a copy that attends with `backend`."""
    made = compiled(cache, backend, **choices)
    module = attention.seeded(Attending, seed)
    return Pair(module, applied_copy(impl, made, module))


def compiled(cache: PackageCache, backend: str, **choices: Any) -> Any:
    """Compile an Attending with `backend`."""
    module, call = attention.seeded(Attending), attention.call()
    return cache.compiled(module, call, attention=backend, **choices)


def assert_ranges_hold(
    impl: Adapter, cache: PackageCache, backend: str, seed: int
) -> None:
    """Assert that calls at sizes of a range are right or refused."""
    __tracebackhide__ = True
    ranges = {"x": {1: attention.TOKENS}}
    calls = [attention.call(tokens, seed=tokens) for tokens in (2, 7, 16, 33, 40)]
    assert_agrees_or_refuses(
        lambda: twins(impl, cache, backend, seed, dynamic=ranges), calls
    )


def fused(backend: str) -> set[str]:
    """Give the fused backends of calls with `backend`: none, where it is "math"."""
    return {backend} - {"math"}


def calls_of(libraries: set[tuple[str, str]]) -> set[str]:
    """Name the fused backends that mapped libraries of compiled graphs call."""
    paths = {path for path, _ in libraries}
    beside = {file for path in paths for file in Path(path).parent.glob("*.json")}
    held = [*_mapped(paths), *(file.read_bytes() for file in beside)]
    return {
        backend
        for operator, backend in _OPERATORS.items()
        if any(_mentions(data, operator) for data in held)
    }


def _mapped(paths: set[str]) -> list[bytes]:
    """Read what is mapped of files, which may be gone from the disk by now."""
    found: list[bytes] = []
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    with Path("/proc/self/mem").open("rb") as memory:
        for line in maps:
            place, rights, _, _, _, *path = line.split(maxsplit=5)
            if path and path[0] in paths and "r" in rights:
                start, end = (int(number, 16) for number in place.split("-"))
                memory.seek(start)
                found.append(memory.read(end - start))
    return found


def _mentions(data: bytes, operator: str) -> bool:
    kind = torch.device(device.chosen()).type
    prefixes = f"aoti_torch_{kind}_", "aten::", "aten."
    return any(f"{prefix}{operator}".encode() in data for prefix in prefixes)


def newly_called(function: Callable[[], object]) -> set[str]:
    """Name the fused backends that graphs call which `function` loads and returns."""
    before = gauges.libraries()
    kept = function()  # libraries go with the last model that uses them
    found = calls_of(gauges.libraries() - before)
    del kept
    return found


def launched(function: Callable[[], object]) -> set[str]:
    """Name the fused backends whose kernels run on the GPU in `function`."""
    function()  # what is done once is done
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        function()
        torch.cuda.synchronize()
    found: set[str] = set()
    for event in seen.events():
        name = event.name.lower()
        fits = [backend for part, backend in _KERNELS.items() if part in name]
        found |= set(fits[:1])
    return found
