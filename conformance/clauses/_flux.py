"""A tiny FLUX, whole or with compiled blocks, and what takes its weights away.

The branches between "answered" and "refused" stand here, and not in the tests.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import cpu_offload
from diffusers.hooks import apply_group_offloading

from conformance import device, pipelines
from conformance.models import lora
from conformance.parity import assert_parity, truth
from conformance.workbench import Pair, applied_copy, attempt, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from conformance.adapter import Adapter, Call
    from conformance.cache import PackageCache
    from conformance.pipelines import Case


class Flux(NamedTuple):
    """A pipeline, a call of its denoiser, and that compiled."""

    case: Case
    call: Call
    compiled: Any

    def pair(self, impl: Adapter) -> Pair:
        """Apply to a copy of the denoiser."""
        module = self.case.module
        return Pair(module, applied_copy(impl, self.compiled, module))


def in_blocks(cache: PackageCache) -> Flux:
    """Compile the blocks of a FLUX."""
    case = pipelines.load("flux")
    call = case.first_call()
    return Flux(case, call, cache.regions(case.module, call, run=case.run))


def whole(cache: PackageCache) -> Flux:
    """Compile a FLUX as a whole."""
    case = pipelines.load("flux")
    call = case.first_call()
    return Flux(case, call, cache.compiled(copy.deepcopy(case.module), call))


def groups(module: nn.Module, folder: Path) -> None:
    """Offload block by block; on the disk, so that a CPU sees weights go too."""
    apply_group_offloading(
        module,
        onload_device=device.chosen(),
        offload_device="cpu",
        offload_type="block_level",
        num_blocks_per_group=1,
        offload_to_disk_path=str(folder),
    )


def leaves(module: nn.Module, folder: Path) -> None:
    """Offload layer by layer, as diffusers does."""
    apply_group_offloading(
        module,
        onload_device=device.chosen(),
        offload_device="cpu",
        offload_type="leaf_level",
        offload_to_disk_path=str(folder),
    )


def sequentially(module: nn.Module, _folder: Path) -> None:
    """Offload layer by layer, as accelerate does: weights are on "meta" between."""
    cpu_offload(module, torch.device(device.chosen()), offload_buffers=True)


OFFLOADS = (groups, leaves, sequentially)


def offloaded_before(
    impl: Adapter,
    flux: Flux,
    offload: Callable[[nn.Module, Path], None],
    folder: Path,
) -> Pair:
    """Apply to a denoiser whose weights are away."""
    module = copy.deepcopy(flux.case.module)
    offload(module, folder)
    impl.apply(flux.compiled, module)
    return Pair(flux.case.module, module)


def offloaded_after(
    impl: Adapter,
    flux: Flux,
    offload: Callable[[nn.Module, Path], None],
    folder: Path,
) -> Pair:
    """Apply to a denoiser, call it, and take its weights away."""
    twins = flux.pair(impl)
    with torch.no_grad():
        twins.applied(*flux.call.args, **flux.call.kwargs)
    offload(twins.applied, folder)
    return twins


def adapted_before(impl: Adapter, flux: Flux) -> Pair:
    """Apply to a denoiser that LoRA layers hang in."""
    module = copy.deepcopy(flux.case.module)
    lora.hang(module)
    return Pair(module, applied_copy(impl, flux.compiled, module))


def adapted_after(impl: Adapter, flux: Flux) -> Pair:
    """Apply to a denoiser, call it, and hang LoRA layers in it and its twin."""
    twins = flux.pair(impl)
    with torch.no_grad():
        twins.applied(*flux.call.args, **flux.call.kwargs)
    for twin in twins:
        lora.hang(twin)
    return twins


def assert_agrees_or_names(make: Callable[[], Pair], call: Call, name: str) -> None:
    """Assert parity for one call, or that making or calling refuses with a name."""
    __tracebackhide__ = True
    with torch.no_grad():
        made = attempt(make)
        ended = made
        if made.error is None:
            ended = attempt(lambda: made.value.applied(*call.args, **call.kwargs))
    if ended.error is not None:
        if not is_refusal(ended.error):
            raise ended.error
        assert name in str(ended.error), f"{name} is not in: {ended.error}"
        return
    eager = made.value.eager
    with torch.no_grad():
        expected = eager(*call.args, **call.kwargs)
    assert_parity(ended.value, expected, truth(eager, call))


def assert_fused_counts(
    twins: Pair, call: Call, agree: Callable[[Pair, Call], None]
) -> None:
    """Fuse a LoRA into twins and take it out, in every way; assert that they agree."""
    __tracebackhide__ = True
    plain = _answer(twins.eager, call)
    for fuse in lora.WAYS:
        for sign in (1, -1):
            for twin in twins:
                with torch.no_grad():
                    fuse(twin, sign)
            agree(twins, call)
            moved = (_answer(twins.eager, call) - plain).norm() / plain.norm()
            assert (moved > 1e-2) == (sign > 0), f"{fuse.__name__}: {moved:.1e}"


def _answer(module: nn.Module, call: Call) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = module(*call.args, **call.kwargs)[0]
    return found
