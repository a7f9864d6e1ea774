"""What the clauses of KRN share: processes that have loaded a kernel, or have not."""

from __future__ import annotations

import importlib.util
import os
import py_compile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from conformance import gauges, pipelines
from conformance.adapter import Packages, load
from conformance.clauses._unpacking import in_child
from conformance.models import blocks, kernels
from conformance.workbench import attempt, is_refusal, ran_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.cache import PackageCache


def saved(
    impl: Packages,
    cache: PackageCache,
    module: Callable[[], nn.Module],
    folder: Path,
    seed: int,
    prepare: Callable[[], object],
) -> Path:
    """Save a compiled module of `seed` in a child that does `prepare` first."""
    package, temporary = folder / "package", folder / "compiling"
    package.mkdir()
    temporary.mkdir()

    def save() -> None:
        prepare()
        made = cache.compiled(blocks.seeded(module, seed), kernels.call())
        impl.save(made, package)

    in_child(save, temporary)
    return package


def attending(impl: Any, cache: PackageCache, folder: Path, seed: int) -> Path:
    """Save a compiled Attending; this process knows nothing of the kernel."""
    kernel = kernels.write(folder / "kernel-of-the-build")

    def prepare() -> None:
        impl.use_kernel(kernels.REPOSITORY, folder=kernel)

    return saved(impl, cache, kernels.Attending, folder, seed, prepare)


def put(folder: Path, **said: Any) -> Path:
    """Write the kernel into `folder`, where the library finds it from now on."""
    os.environ["LOCAL_KERNELS"] = f"{kernels.REPOSITORY}={folder}"
    return kernels.write(folder, **said)


def plant(folder: Path, marker: Path) -> None:
    """Leave compiled Python beside the kernel's code: it makes `marker` when it runs.

    It says of itself that nobody need compare it with the code.
    """
    code = folder / kernels.BUILD / "__init__.py"
    planted = marker.with_suffix(".py")
    planted.write_text(f"{touching(marker)}{code.read_text()}")
    py_compile.compile(
        str(planted),
        cfile=importlib.util.cache_from_source(str(code)),
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def touching(marker: Path) -> str:
    """Write code that makes the file `marker`."""
    return f"open({str(marker)!r}, 'w').close()\n"


def answer(impl: Packages, package: Path, seed: int) -> Any:
    """Load, apply to an Attending of `seed`, and call it: the answer as lists."""
    module = blocks.seeded(kernels.Attending, seed)
    impl.apply(impl.load(package), module)
    with torch.no_grad(), ran_compiled(module):
        return module(*kernels.call(seed).args).tolist()


def want(folder: Path, seed: int) -> Any:
    """Answer as eager does, with the kernel in `folder` and no layer: as lists."""
    import kernels as library

    library.get_local_kernel(folder)
    with torch.no_grad():
        found: Any = blocks.seeded(kernels.Attending, seed)(*kernels.call(seed).args)
    return found.tolist()


def refused(function: Callable[[], Any]) -> dict[str, Any]:
    """Call what must be refused, and tell what became of it.

    Returns:
        The words, the libraries of graphs that were mapped, and how often the kernel
        ran.
    """
    before = gauges.libraries()
    ended = attempt(function)
    mapped = sorted(p for p, _ in gauges.libraries() - before if "wrapper" in p)
    if ended.error is not None and not is_refusal(ended.error):
        raise ended.error
    words = None if ended.error is None else str(ended.error)
    return {"words": words, "mapped": mapped, "ran": kernels.calls()}


def fresh_answer(adapter: str, package: str, seed: int) -> dict[str, Any]:
    """Load and call in a fresh Python: the answer, and how often the kernel ran."""
    torch.set_num_threads(1)
    impl = cast("Packages", load(adapter))
    found = answer(impl, Path(package), seed)
    return {"value": found, "ran": kernels.calls()}


def flux_block(seed: int) -> tuple[nn.Module, Any]:
    """Give a block of the tiny FLUX with the kernel for attention, and its pipeline."""
    case = pipelines.load("flux")
    block: Any = case.module.get_submodule("transformer_blocks.0")
    block.attn.set_processor(kernels.Processor())
    generator = torch.Generator().manual_seed(seed)
    for tensor in block.parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        tensor.data += 0.02 * noise.to(tensor.device)
    return block, case


def flux_saved(impl: Any, cache: PackageCache, folder: Path, seed: int) -> Path:
    """Capture the block in its pipeline, compile and save it in a child."""
    package, temporary = folder / "package", folder / "compiling"
    package.mkdir()
    temporary.mkdir()
    kernel = kernels.write(folder / "kernel-of-the-build")

    def save() -> None:
        impl.use_kernel(kernels.REPOSITORY, folder=kernel)
        block, case = flux_block(seed)
        with impl.capture(block) as call:
            case.run(seed)
        torch.save((call.args, dict(call.kwargs)), folder / "call.pt")
        impl.save(cache.compiled(block, call), package)

    in_child(save, temporary)
    return package


def flux_answer(adapter: str, package: str, call: str, seed: int) -> dict[str, Any]:
    """Answer a block's call in a fresh Python: compiled, then as eager does."""
    torch.set_num_threads(1)
    impl = cast("Packages", load(adapter))
    args, kwargs = torch.load(call, weights_only=True)
    block, _ = flux_block(seed)
    impl.apply(impl.load(Path(package)), block)
    with torch.no_grad():
        with ran_compiled(block):
            found = [part.tolist() for part in block(*args, **kwargs)]
        ran = kernels.calls()
        eager, _ = flux_block(seed)
        wanted = [part.tolist() for part in eager(*args, **kwargs)]
    return {"found": found, "wanted": wanted, "ran": ran}
