"""What the chapter MEM shares: compiled modules, and twins on the same tensors."""

from __future__ import annotations

import copy
import gc
from typing import TYPE_CHECKING, Any

from conformance import gauges
from conformance.models import applying, blocks, memory
from conformance.workbench import Pair, assert_equal_or_refused

if TYPE_CHECKING:
    import torch
    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

WIDE_BYTES = 64 << 20


def compiled_wide(cache: PackageCache, seed: int) -> Any:
    """Compile a Wide, of which nothing is left."""
    found = cache.compiled(blocks.seeded(applying.Wide, seed), applying.wide_call())
    gc.collect()
    return found


def compiled_tied(cache: PackageCache, seed: int, rows: int = 2) -> Any:
    """Compile a Tied for calls with so many rows."""
    return cache.compiled(blocks.seeded(memory.Tied, seed), memory.tied_call(rows=rows))


def tied(impl: Adapter, cache: PackageCache, seed: int) -> nn.Module:
    """Give a Tied that a compiled model was applied to, and that was called."""
    module = blocks.seeded(memory.Tied, seed)
    impl.apply(compiled_tied(cache, seed), module)
    module(*memory.tied_call().args)
    return module


def sharing(module: nn.Module) -> nn.Module:
    """Copy a module without its tensors, which both have from then on."""
    held = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in held})


def assert_both_count(twins: list[Pair], calls: list[Any]) -> None:
    """Change the weight of twins that share it in place; assert that all answer."""
    __tracebackhide__ = True
    twins[0].applied.get_parameter("encode.weight").data.mul_(1.5)
    for pair, call in zip(twins, calls, strict=True):
        assert_equal_or_refused(pair, call)


def left_over(known: set[int]) -> list[int]:
    """Give the sizes of the tensors of 1 MiB or more that are not at `known`."""
    found = gauges.tensors(least_bytes=1 << 20)
    return [size for address, size in found.items() if address not in known]


def poison(size_bytes: int) -> list[torch.Tensor]:
    """Write a large number into what the allocators give away next."""
    gc.collect()
    count = size_bytes // 4
    return [blocks.normal(count).fill_(1e30) for _ in range(16)]


def restored(impl: Any, module: nn.Module) -> None:
    """Restore a module, where the implementation can."""
    impl.restore(module)
