"""What the clauses of chapter VAR share: three graphs of one module, and judges."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch

from conformance.models import blocks, variants
from conformance.workbench import Pair, applied_copy, assert_agrees

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from conformance.adapter_graphs import Variants
    from conformance.cache import PackageCache


def mixed(seed: int) -> nn.Module:
    return blocks.seeded(variants.Mixed, seed)


def two_forms(
    cache: PackageCache, seed: int, kind: type[nn.Module] = variants.Mixed
) -> Any:
    """Compile a Mixed with a mask and without, from calls of which two are alike."""
    calls = [variants.call(), variants.call(seed=1), variants.masked_call()]
    return cache.variants(blocks.seeded(kind, seed), calls)


def ranged(cache: PackageCache, seed: int) -> tuple[Any, tuple[int, ...]]:
    """Compile a Mixed for two dtypes at once, for a range of tokens where there is one.

    Returns:
        What was compiled, and numbers of tokens that are in its domains.
    """
    calls = [variants.call(), variants.double_call()]
    if "dynamic" not in cache.adapter.capabilities:
        return cache.variants(mixed(seed), calls), (6,)
    made = cache.variants(mixed(seed), calls, dynamic=variants.RANGES)
    return made, (4, 7, 24)


def in_double(
    cache: PackageCache, seed: int, kind: type[nn.Module] = variants.Mixed
) -> Any:
    """Compile a Mixed for float64, for a range of tokens where there are ranges."""
    ranges = {"dynamic": variants.RANGES}
    choices: Any = ranges if "dynamic" in cache.adapter.capabilities else {}
    module = blocks.seeded(kind, seed)
    return cache.compiled(module, variants.double_call(), **choices)


def shifted(cache: PackageCache, seed: int) -> Any:
    """Compile a Shifted, whose range holds the size that a Mixed was compiled for."""
    module = blocks.seeded(variants.Shifted, seed)
    return cache.compiled(module, variants.call(), dynamic=variants.RANGES)


def three(
    cache: PackageCache, seed: int, kind: type[nn.Module] = variants.Mixed
) -> Any:
    """Put all graphs of a Mixed together."""
    impl = cast("Variants", cache.adapter)
    return impl.combine([two_forms(cache, seed, kind), in_double(cache, seed, kind)])


def on_a_copy(
    cache: PackageCache, seed: int, kind: type[nn.Module] = variants.Mixed
) -> Pair:
    """Apply all graphs to a copy of a Mixed."""
    module, compiled = blocks.seeded(kind, seed), three(cache, seed, kind)
    return Pair(module, applied_copy(cache.adapter, compiled, module))


def called(twins: Pair) -> Pair:
    """Call every graph of a pair: what is native is there."""
    for call in variants.each_form():
        twins.applied(*call.args, **call.kwargs)
    return twins


def assert_all_agree(twins: Pair, seeds: Iterable[int] = (0, 1)) -> None:
    """Assert that calls of every graph, by turns, are answered by compiled code."""
    __tracebackhide__ = True
    for seed in seeds:
        for call in variants.each_form(seed):
            assert_agrees(twins, call)


def seen(module: nn.Module) -> int:
    """Read how many calls a Counting has counted."""
    return int(module.get_buffer("seen"))


def answers(module: nn.Module, seed: int) -> list[Any]:
    """Call every graph of a module; the answers as lists, which JSON can say."""
    with torch.no_grad():
        return [
            module(*call.args, **call.kwargs).tolist()
            for call in variants.each_form(seed)
        ]


def changed(module: nn.Module) -> nn.Module:
    """Copy an eager module and change its weights in place."""
    twin = copy.deepcopy(module)
    change(twin)
    return twin


def change(module: nn.Module) -> None:
    """Change the weights of a Mixed in place."""
    for name in ("proj.weight", "gate.bias"):
        module.get_parameter(name).mul_(1.5)
