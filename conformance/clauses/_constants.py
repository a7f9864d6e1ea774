"""What the clauses of chapter CST share: twins with one thing changed, and judges.

The branches between "answered" and "refused" stand here, and not in the tests.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from conformance import device
from conformance.adapter import Refused
from conformance.clauses import _compiles
from conformance.clauses._applied import unless_refused
from conformance.models import constants
from conformance.models.blocks import normal
from conformance.workbench import Pair, assert_equal_or_refused, attempt, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from torch import nn

    from conformance.adapter import Adapter

    # What to do, to the module of which pair, and the seed to do it with.
    Step = tuple[Callable[[nn.Module, int], None], int, int]


def applied_to(
    impl: Adapter,
    compiled: Any,
    make: Callable[[], nn.Module],
    *changes: Callable[[nn.Module], Any],
) -> Pair:
    """Make two modules, change both, and apply `compiled` to the second.

    Nothing is copied, because a copy would have every tensor in memory of its own.
    """
    eager, applied = make(), make()
    for change in changes:
        change(eager)
        change(applied)
    impl.apply(compiled, applied)
    return Pair(eager, applied)


def unless_made(make: Callable[[], Any]) -> list[Any]:
    """Give what `make` makes, alone in a list that is empty where it is refused.

    Only the implementation's own refusals count here: what is made by its verbs.
    """
    try:
        return [make()]
    except Refused:
        return []


def shown(twins: Pair, change: Callable[[nn.Module], Any]) -> list[Pair]:
    """Change both modules, and assert that eager's answer is another one then.

    Returns:
        The twins, or nothing where the applied module raised instead.
    """
    __tracebackhide__ = True
    x = constants.call().args
    before = twins.eager(*x).clone()
    change(twins.eager)
    after = twins.eager(*x)
    same = before.shape == after.shape and torch.equal(before, after)
    assert not same, "the change shows in no answer, so it proves nothing"
    return [twins for _ in unless_refused(lambda: change(twins.applied))]


def assert_follow(pairs: Sequence[Pair], steps: Iterable[Step]) -> None:
    """Assert that all pairs answer rightly after each step, until one is refused."""
    __tracebackhide__ = True
    for change, which, number in steps:
        if not unless_refused(lambda: _done(change, pairs[which].applied, number)):  # noqa: B023
            return
        change(pairs[which].eager, number)
        for twins in pairs:
            assert_equal_or_refused(twins, constants.call(number % 8))


def _done(change: Callable[..., None], module: nn.Module, number: int) -> bool:
    change(module, number)
    return True


def assert_right_or_named(make: Callable[[], Pair], name: str) -> None:
    """Assert that calls are equal or refused, or that `make` says no to `name`."""
    __tracebackhide__ = True
    try:
        twins = make()
    except Refused as refusal:
        words = str(refusal)
    else:
        words = name
        for seed in (0, 1):
            assert_equal_or_refused(twins, constants.call(seed))
    assert name in words, f"{name} is not in: {words}"


def assert_same_states(twins: Pair, calls: Iterable[Any]) -> None:
    """Assert bitwise equal answers and buffers, call by call, or a refusal."""
    __tracebackhide__ = True
    _compiles.assert_same_history(lambda: twins, calls)


def assert_same_notes(
    make: Callable[[], Pair], x: torch.Tensor, *, times: int = 3
) -> None:
    """Assert that answers, and the tensor `note` of each module, stay equal.

    Args:
        make: Exports, compiles and applies; it may be refused too.
        x: The argument.
        times: How many calls there are.
    """
    __tracebackhide__ = True
    try:
        twins = make()
    except Refused:
        return
    for number in range(times):
        with torch.no_grad():
            want = twins.eager(x)
            got = attempt(lambda: twins.applied(x))
        if got.error is not None:
            if not is_refusal(got.error):
                raise got.error
            return
        assert torch.equal(got.value, want), f"call {number} is not eager's"
        notes = [module.note for module in twins]
        assert torch.equal(*notes), f"call {number} leaves {notes}"  # type: ignore[arg-type]


def by_place(module: nn.Module, x: torch.Tensor) -> Any:
    return module(x)


def by_name(module: nn.Module, x: torch.Tensor) -> Any:
    return module(x=x)


def assert_same_on_own_memory(
    twins: Pair,
    arrange: Callable[[nn.Module], torch.Tensor],
    give: Callable[[nn.Module, torch.Tensor], Any],
) -> None:
    """Call each module with the argument that `arrange` makes of its own memory."""
    __tracebackhide__ = True
    given = [arrange(module) for module in twins]
    with torch.no_grad():
        want = give(twins.eager, given[0])
        got = attempt(lambda: give(twins.applied, given[1]))
    if got.error is not None:
        if not is_refusal(got.error):
            raise got.error
        return
    assert torch.equal(got.value, want), f"found {got.value}, eager has {want}"
    assert torch.equal(*given), "the arguments are not left as eager leaves them"


def file_of(module: nn.Module, folder: Path) -> Path:
    """Save the state dict of a module, all weights in one storage."""
    constants.flatten(module)
    path = folder / "checkpoint.pt"
    torch.save(module.state_dict(), path)
    return path


def map_from(module: nn.Module, path: Path) -> None:
    """Assign a state dict that is mapped from a file."""
    mapped = torch.load(
        path, map_location=device.chosen(), mmap=True, weights_only=True
    )
    module.load_state_dict(mapped, assign=True)
    module.requires_grad_(requires_grad=False)


def poisoned(like: nn.Module) -> list[torch.Tensor]:
    """Fill memory of the sizes of a module's tensors: a stale address reads it."""
    tensors = [*like.parameters(), *like.buffers()]
    return [
        torch.full_like(t, 1e30 if t.is_floating_point() else 0)
        for t in tensors
        for _ in range(64)
    ]


# What can become of a module's weights in a sequence: named, and given a seed.


def fuse(module: nn.Module, seed: int) -> None:
    down, up = normal(4, 1, seed=seed), normal(1, 4, seed=seed + 1)
    constants.get(module, "linear.weight").data += down @ up


def unfuse(module: nn.Module, seed: int) -> None:
    down, up = normal(4, 1, seed=seed), normal(1, 4, seed=seed + 1)
    constants.get(module, "linear.weight").data -= down @ up


def load(module: nn.Module, seed: int) -> None:
    module.load_state_dict(constants.constants(seed).state_dict())


def assign(module: nn.Module, seed: int) -> None:
    state = copy.deepcopy(constants.constants(seed).state_dict())
    module.load_state_dict(state, assign=True)


def swap_data(module: nn.Module, seed: int) -> None:
    constants.get(module, "turned").data = constants.others("turned", seed)


def renew_some(module: nn.Module, seed: int) -> None:
    constants.renew(module, constants.FLOATING[seed % len(constants.FLOATING)], seed)


def exchange_some(module: nn.Module, seed: int) -> None:
    constants.exchange(module, constants.FLOATING[seed % len(constants.FLOATING)], seed)


STEPS = (fuse, unfuse, load, assign, swap_data, renew_some, exchange_some)
