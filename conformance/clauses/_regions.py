"""What the clauses of chapter REG share: blocks, and the judges of modules with them.

The branches between "answered" and "refused" stand here, and not in the tests.
"""

from __future__ import annotations

import copy
import inspect
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from conformance.adapter import Refused
from conformance.models import blocks, regions
from conformance.parity import assert_parity, truth
from conformance.workbench import (
    Pair,
    assert_equal_or_refused,
    attempt,
    is_refusal,
    ran_compiled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn

    from conformance.cache import PackageCache


def blocks_of(module: nn.Module) -> dict[str, nn.Module]:
    """Find the blocks of a module, by name."""
    names: Any = module._repeated_blocks
    return {
        name: part
        for name, part in module.named_modules()
        if {base.__name__ for base in type(part).__mro__} & set(names)
    }


def compiled_twofold(cache: PackageCache, seed: int) -> Any:
    """Compile the blocks of a Twofold, with ranges where there are ranges."""
    module = blocks.seeded(regions.Twofold, seed)
    ranges = {"dynamic": regions.RANGES}
    choices: Any = ranges if "dynamic" in cache.adapter.capabilities else {}
    return cache.regions(module, regions.call(), **choices)


@contextmanager
def ran_compiled_blocks(module: nn.Module, eager: Iterable[str] = ()) -> Iterator[None]:
    """Assert that no Python of a block's children runs, but in those that are eager."""
    __tracebackhide__ = True
    with ExitStack() as stack:
        for name, block in blocks_of(module).items():
            if name not in eager:
                stack.enter_context(ran_compiled(block))
        yield


def assert_blocks_agree(twins: Pair, call: Any, *, eager: Iterable[str] = ()) -> None:
    """Assert parity for one call, and that compiled code ran in every block."""
    __tracebackhide__ = True
    with torch.no_grad():
        expected = twins.eager(**copy.deepcopy(dict(call.kwargs)))
        with ran_compiled_blocks(twins.applied, eager):
            actual = twins.applied(**call.kwargs)
    assert_parity(actual, expected, truth(twins.eager, call))


def assert_block_right_or_refused(
    make: Callable[[], Pair], name: str, call: Any
) -> None:
    """Assert that making is refused, or one block right or refused by itself."""
    __tracebackhide__ = True
    try:
        twins = make()
    except Refused:
        return
    eager, applied = (twin.get_submodule(name) for twin in twins)
    assert_equal_or_refused(Pair(eager, applied), call)


def assert_agrees_or_names(twins: Pair, call: Any, *names: str) -> None:
    """Assert parity for one call, or a refusal with all of the names in its words."""
    __tracebackhide__ = True
    with torch.no_grad():
        expected = twins.eager(**copy.deepcopy(dict(call.kwargs)))
        ended = attempt(lambda: twins.applied(**call.kwargs))
    if ended.error is None:
        assert_parity(ended.value, expected, truth(twins.eager, call))
        return
    if not is_refusal(ended.error):
        raise ended.error
    missing = [name for name in names if name not in str(ended.error)]
    assert not missing, f"{missing} is not in: {ended.error}"


def assert_drops_or_refuses(module: nn.Module, call: Any) -> None:
    """Assert that answers differ from call to call, or that calls are refused."""
    __tracebackhide__ = True
    with torch.no_grad():
        ended = attempt(lambda: [module(**call.kwargs) for _ in range(4)])
    if ended.error is None:
        first, *others = ended.value
        assert not all(torch.equal(first, other) for other in others), "none dropped"
    elif not is_refusal(ended.error):
        raise ended.error


def listened(block: nn.Module) -> list[str]:
    """Hang hooks on a block that change its calls, and list them as they run."""
    ran: list[str] = []

    def before(_block: nn.Module, args: Any, kwargs: Any) -> Any:
        ran.append("before")
        named = {n: 2 * x if n == "hidden_states" else x for n, x in kwargs.items()}
        return (*(2 * x for x in args[:1]), *args[1:]), named

    def after(_block: nn.Module, _args: Any, result: Any) -> Any:
        ran.append("after")
        return result + 1

    block.register_forward_pre_hook(before, with_kwargs=True)
    block.register_forward_hook(after)
    return ran


def assert_answered_as_heard(twins: Pair, heard: list[list[str]]) -> None:
    """Assert that hooks which both twins listen to run once, and that both agree."""
    __tracebackhide__ = True
    with torch.no_grad():
        want, actual = (twin(**regions.call().kwargs) for twin in twins)
    assert heard == [["before", "after"]] * 2
    assert_parity(actual, want, truth(twins.eager, regions.call()))


def state(module: nn.Module) -> dict[str, Any]:
    """Note the attributes of a module and all below, and its tensors' identities."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {
        "attributes": {n: sorted(vars(part)) for n, part in module.named_modules()},
        "tensors": {n: (id(t), t.data_ptr(), t.tolist()) for n, t in tensors},
        "forwards": {
            name: inspect.getattr_static(part, "forward")
            for name, part in module.named_modules()
        },
    }
