"""What the chapter RUN shares: its compiled modules, and ways to spoil a call."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from conformance import device, fuzz, fuzz_results
from conformance.adapter import Call
from conformance.models import blocks, calls
from conformance.models.blocks import normal
from conformance.workbench import (
    Pair,
    assert_equal_or_refused,
    attempt,
    pair,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


def many(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Compile Many, with rows that vary."""
    module = blocks.seeded(calls.Many, seed)
    return pair(impl, cache, module, calls.many_call(), dynamic=calls.DYNAMIC)


def numbers(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Compile Chosen for NaN, an int and a bool."""
    module = blocks.seeded(calls.Chosen, seed)
    return pair(impl, cache, module, calls.numbers_call())


def chosen(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Compile Chosen for an enum, a dtype, NaN, an int and a bool."""
    module = blocks.seeded(calls.Chosen, seed)
    return pair(impl, cache, module, calls.chosen_call())


def optional(impl: Adapter, cache: PackageCache) -> Pair:
    """Compile Optional for a call with `plus` and without `minus`."""
    call = Call((normal(3, 4),), {"plus": normal(3, 4, seed=1)})
    return pair(impl, cache, blocks.seeded(calls.Optional), call)


def tensors(call: Call) -> Iterator[tuple[int, torch.Tensor]]:
    """Give every tensor of a call with its number among the leaves."""
    for number, leaf in enumerate(pytree.tree_leaves((call.args, dict(call.kwargs)))):
        if isinstance(leaf, torch.Tensor):
            yield number, leaf


def with_leaf(call: Call, number: int, leaf: Any) -> Call:
    """Exchange one leaf of a copy of `call`."""
    tree = copy.deepcopy((call.args, dict(call.kwargs)))
    leaves, spec = pytree.tree_flatten(tree)
    leaves[number] = leaf
    return Call(*pytree.tree_unflatten(leaves, spec))


def each_tensor(call: Call, spoil: Callable[[torch.Tensor], Any]) -> Iterator[Call]:
    """Spoil every tensor of a call, one at a time."""
    for number, leaf in tensors(call):
        yield with_leaf(call, number, spoil(leaf))


def each_size(call: Call, size: Callable[[int], int]) -> Iterator[Call]:
    """Change every size of every tensor, one at a time, by repeating or cutting."""
    for number, leaf in tensors(call):
        for dim, old in enumerate(leaf.shape):
            places = torch.arange(size(old), device=leaf.device) % old
            yield with_leaf(call, number, leaf.index_select(dim, places))


def assert_noticed(twins: Pair, spoilt: Iterator[Call]) -> None:
    """Assert that every call is answered as eager does, or refused."""
    __tracebackhide__ = True
    count = 0
    for call in spoilt:
        assert_equal_or_refused(twins, call)
        count += 1
    assert count, "no call was made"


def assert_refused(twins: Pair, *args: Any, **kwargs: Any) -> str:
    """Assert that a call is refused; give the words."""
    __tracebackhide__ = True
    with torch.no_grad(), refuses() as refusal:
        twins.applied(*args, **kwargs)
    return str(refusal)


def assert_noticed_kind(twins: Pair, call: Any, kind: str, seed: int) -> None:
    """Assert that a perturbed call is answered as eager does, or refused."""
    __tracebackhide__ = True
    told = fuzz.judge(twins, call, kind, seed)
    noticed = told is None or told.outcome in (
        fuzz_results.EQUAL,
        fuzz_results.REFUSED,
        fuzz_results.FALSE,
    )
    assert noticed, f"{kind}, seed {seed}: {told}"


def assert_clean(twins: Pair, call: Any, kind: str, seed: int) -> None:
    """Assert that a perturbed call is equal or refused, and accepted if it is good."""
    __tracebackhide__ = True
    told = fuzz.judge(twins, call, kind, seed)
    clean = told is None or told.outcome in (fuzz_results.EQUAL, fuzz_results.REFUSED)
    assert clean, f"{kind}, seed {seed}: {told}"


def fresh_result(adapter: str, folder: str, seed: int) -> list[str]:
    """Load a saved Returned in a process of its own; name the classes of its result.

    The result is looked at before anything of the caller's is imported.
    """
    from pathlib import Path

    from conformance.adapter import load

    impl: Any = load(adapter)
    module = blocks.seeded(calls.Returned, seed)
    impl.apply(impl.load(Path(folder)), module)
    with torch.no_grad():
        result = module(*calls.returned_call(seed).args)
    return [type(result).__qualname__, type(result["output"]).__qualname__]


def made(twins: Pair, call: Call) -> None:
    """Make a good call before others; what becomes of it is RUN-07's to ask."""
    with torch.no_grad():
        attempt(lambda: twins.applied(*call.args, **call.kwargs))


def here(value: float) -> torch.Tensor:
    """Give a 0-d tensor on the device under test."""
    return torch.tensor(value, device=device.chosen())
