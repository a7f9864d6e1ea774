"""Chapter PRC: threads that load, call, and change weights at once."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import itertools
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from conformance import gauges
from conformance.clauses import _memory, _threads
from conformance.clauses._applied import unless_refused
from conformance.clauses._threads import (
    Caller,
    assert_among,
    assert_answered,
    assert_near,
    assert_one_of,
)
from conformance.models import blocks, memory
from conformance.spec import clause
from conformance.workbench import Pair, assert_equal_or_refused, attempt, is_refusal

if TYPE_CHECKING:
    from conformance.adapter import Adapter, Restores
    from conformance.cache import PackageCache

NAME = "blocks.1.out"


@pytest.fixture
def compiled(cache: PackageCache, seed: int) -> Any:
    return cache.compiled(blocks.seeded(blocks.Stack, seed), blocks.call())


@pytest.fixture
def twins(impl: Adapter, compiled: Any, seed: int) -> Pair:
    """Give a pair that was called."""
    made = Pair(*(blocks.seeded(blocks.Stack, seed) for _ in range(2)))
    impl.apply(compiled, made.applied)
    made.applied(**blocks.call().kwargs)
    return made


def draw(number: int) -> Any:
    return blocks.call(seed=number)


@clause("PRC-20")
def test_first_calls_at_once_load_once(impl: Adapter, compiled: Any, seed: int) -> None:
    before = gauges.libraries()
    eager, applied = (blocks.seeded(blocks.Stack, seed) for _ in range(2))
    impl.apply(compiled, applied)

    assert_answered(_threads.callers([(applied, eager)], draw, calls=1))

    assert len(gauges.libraries() - before) <= 1


@clause("PRC-21")
def test_every_caller_gets_his_own_answer(twins: Pair) -> None:
    assert_answered(_threads.callers([(twins.applied, twins.eager)], draw))


@clause("PRC-22", may_refuse=True)  # APP-22 lets apply refuse a second module
def test_modules_that_share_a_graph_keep_their_weights(
    impl: Adapter, compiled: Any, seed: int
) -> None:
    modules = []
    for number in range(4):
        eager, applied = (blocks.seeded(blocks.Stack, seed + number) for _ in range(2))
        impl.apply(compiled, applied)
        modules.append((applied, eager))

    assert_answered(_threads.callers(modules, draw))


@clause("PRC-23")
def test_graphs_that_share_weights_keep_apart(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    eager = blocks.seeded(memory.Tied, seed)
    modules = []
    for rows in (2, 3):
        applied = _memory.sharing(eager)
        impl.apply(_memory.compiled_tied(cache, seed, rows), applied)
        modules.append((applied, eager))

    assert_answered(
        [
            Caller(modules, [memory.tied_call(2 + k % 2, seed=n) for k in range(6)])
            for n in range(8)
        ]
    )


@clause("PRC-24")
def test_another_context_loads_nothing(impl: Adapter, compiled: Any, seed: int) -> None:
    before = gauges.libraries()
    eager, applied = (blocks.seeded(blocks.Stack, seed) for _ in range(2))
    impl.apply(compiled, applied)
    caller = Caller([(applied, eager)], [draw(1)])
    caller()

    async def threads() -> list[list[Any]]:
        return await asyncio.gather(*(asyncio.to_thread(caller) for _ in range(20)))

    found = asyncio.run(threads())
    found += [contextvars.copy_context().run(caller) for _ in range(20)]
    found += [contextvars.Context().run(caller) for _ in range(20)]

    assert len(gauges.libraries() - before) <= 1
    assert_near(found, [caller.wanted()] * 60)


@clause("PRC-25")
def test_every_threads_calls_are_checked(twins: Pair) -> None:
    for module in twins:
        wide = module.get_parameter(f"{NAME}.bias").double()
        module.get_submodule(NAME).bias = nn.Parameter(wide, requires_grad=False)

    _threads.values([partial(assert_equal_or_refused, twins, draw(1))] * 2)


@dataclass(frozen=True)
class Exchange:
    """What hangs in a module by turns, and the right answer for each of them."""

    module: nn.Module
    name: str
    turns: Any

    def __call__(self) -> None:
        path, _, key = self.name.rpartition(".")
        setattr(self.module.get_submodule(path), key, next(self.turns))


def answers(eager: nn.Module, name: str, things: list[Any]) -> list[torch.Tensor]:
    """Ask an eager module for its answer with each of `things` in place."""
    found = []
    for thing in things:
        Exchange(eager, name, iter([thing]))()
        found += Caller([(eager, eager)], [draw(1)])()
    return found


def calling(twins: Pair) -> list[Caller]:
    """Make three callers that make one call again and again."""
    return [Caller([(twins.applied, twins.eager)], [draw(1)] * 60) for _ in range(3)]


@clause("PRC-26")
def test_a_weight_amid_calls_is_old_or_new(twins: Pair) -> None:
    name = f"{NAME}.weight"
    weights = [
        nn.Parameter(blocks.normal(16, 16, seed=n), requires_grad=False) for n in (7, 8)
    ]
    wanted = answers(twins.eager, name, weights)
    Exchange(twins.applied, name, iter(weights))()

    fresh = (nn.Parameter(w.clone(), w.requires_grad) for w in itertools.cycle(weights))
    assert_among(calling(twins), Exchange(twins.applied, name, fresh), wanted)


@clause("PRC-27")
def test_weights_are_never_seen_half_exchanged(twins: Pair) -> None:
    children = [blocks.seeded(partial(nn.Linear, 16, 16), n) for n in (7, 8)]
    wanted = answers(twins.eager, NAME, children)
    Exchange(twins.applied, NAME, iter(children))()

    turns = itertools.cycle(children)
    assert_among(calling(twins), Exchange(twins.applied, NAME, turns), wanted)


@clause("PRC-28")
def test_a_misfit_amid_calls_is_never_bound(twins: Pair) -> None:
    name = f"{NAME}.weight"
    good = twins.applied.get_parameter(name)
    bad = nn.Parameter(good.double(), requires_grad=False)
    wanted = answers(twins.eager, name, [good])

    turns = itertools.cycle([bad, good])
    assert_among(calling(twins), Exchange(twins.applied, name, turns), wanted)


@clause("PRC-29")
def test_a_refusal_disturbs_nobody(twins: Pair) -> None:
    modules = [(twins.applied, twins.eager)]
    good = _threads.callers(modules, draw, threads=4)
    bad = Caller(modules, [blocks.call(8, batch=3), blocks.call(5)] * 12)
    wanted = [caller.wanted() for caller in good]

    found = _threads.values([*good, *[bad.attempts] * 4])

    assert_near(found[:4], wanted)
    for attempts in found[4:]:
        for each, right in zip(attempts, bad.wanted(), strict=True):
            assert_one_of(each, [right])


@clause("PRC-30")
def test_apply_and_restore_amid_calls(
    impl: Restores, compiled: Any, twins: Pair
) -> None:
    def exchange() -> None:
        impl.restore(twins.applied)
        impl.apply(compiled, twins.applied)

    wanted = answers(twins.eager, NAME, [twins.eager.get_submodule(NAME)])

    assert_among(calling(twins), exchange, wanted)


@clause("PRC-30")
def test_two_threads_restore(impl: Restores, compiled: Any, twins: Pair) -> None:
    for _ in range(50):
        jobs = [lambda: impl.restore(twins.applied)] * 2
        ended = _threads.together(jobs)
        impl.apply(compiled, twins.applied)

        errors = [each.error for each in ended if each.error is not None]
        assert len(errors) == 1
        assert is_refusal(errors[0])


@clause("PRC-31")
@pytest.mark.usefixtures("on_the_cpu")  # a fork survives no CUDA
def test_a_fork_amid_first_calls_does_not_hang(
    impl: Adapter, compiled: Any, twins: Pair
) -> None:
    modules = [copy.deepcopy(twins.eager) for _ in range(4)]
    over = threading.Event()

    def load(module: nn.Module) -> None:
        while not over.is_set():
            unless_refused(lambda: impl.apply(compiled, module))
            attempt(lambda: module(**blocks.call().kwargs))

    def call() -> list[Any]:
        caller = Caller([(twins.applied, twins.eager)], [draw(1)])
        with torch.no_grad():
            answers = caller()
        weight = twins.applied.get_parameter(f"{NAME}.weight")
        Exchange(twins.applied, f"{NAME}.weight", iter([nn.Parameter(weight)]))()
        twins.applied.requires_grad_(requires_grad=False)
        modules[0].requires_grad_(requires_grad=False)
        unless_refused(lambda: impl.apply(compiled, modules[0]))
        own = Caller([(modules[0], twins.eager)], [draw(1)])
        with torch.no_grad():
            for each in (caller, own):
                answers += [t for found in unless_refused(each) for t in found]
        return [t.tolist() for t in answers]

    def fork() -> list[Any]:
        try:
            return _threads.forked(call, times=5, deadline_s=20)
        finally:
            over.set()

    wanted = Caller([(twins.eager, twins.eager)], [draw(1)])()[0]
    found = _threads.values([*[partial(load, m) for m in modules], fork])[-1]

    for answer in found:
        assert_near(torch.tensor(answer), torch.stack([wanted] * len(answer)))


@clause("PRC-32")
@pytest.mark.usefixtures("gpu_alone")
def test_threads_that_end_leave_nothing(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    _memory.compiled_tied(cache, seed)  # compilers have libraries too
    mapped = gauges.libraries()
    module = _memory.tied(impl, cache, seed)
    jobs = [partial(module, *memory.tied_call(seed=n).args) for n in range(30)]
    for job in jobs[:5]:  # they leave their stacks to the later ones
        _threads.values([job])
    before, running = gauges.resident_bytes(), threading.active_count()

    for job in jobs[5:]:
        _threads.values([job])

    assert gauges.resident_bytes() - before < memory.TIED_BYTES / 2
    assert len(gauges.libraries() - mapped) <= 1
    assert threading.active_count() <= running
