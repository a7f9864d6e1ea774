"""Chapter RUN: what only a GPU can decide of calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from conformance import gauges
from conformance.clauses._applied import unless_refused
from conformance.models import blocks
from conformance.spec import clause
from conformance.workbench import Pair, assert_equal_or_refused, attempt, pair

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

pytestmark = pytest.mark.usefixtures("on_a_gpu")

CYCLES = 100_000_000  # about 50 ms
assert_near = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)


@pytest.fixture
def twins(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Give a pair that was called."""
    made = pair(impl, cache, blocks.seeded(blocks.Stack, seed), blocks.call())
    with torch.no_grad():
        made.applied(**blocks.call().kwargs)
        made.eager(**blocks.call().kwargs)
    return made


@clause("RUN-43")
def test_a_call_runs_on_the_callers_stream(twins: Pair, seed: int) -> None:
    wanted = blocks.hidden_states(seed=seed)
    given = torch.full_like(wanted, float("nan"))
    torch.cuda.synchronize()

    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    slept = torch.cuda.Event()  # type: ignore[no-untyped-call]
    with torch.no_grad(), torch.cuda.stream(side):
        torch.cuda._sleep(CYCLES)  # type: ignore[no-untyped-call]
        slept.record()
        given.copy_(wanted)
        answer = twins.applied(hidden_states=given)
        # What comes after it may take its time, on a GPU that others use.
        waited = slept.query()  # type: ignore[no-untyped-call]
    side.synchronize()

    assert not waited, "the call has waited for the stream"
    with torch.no_grad():
        expected = twins.eager(hidden_states=wanted)
    assert_near(answer, expected)


@clause("RUN-44")
@pytest.mark.parametrize("before", [0, 2])
def test_a_captured_call_replays_rightly_or_is_refused(
    twins: Pair, before: int, seed: int
) -> None:
    given = blocks.hidden_states(seed=seed)
    other = blocks.hidden_states(seed=seed + 1)
    graph = torch.cuda.CUDAGraph()
    for _ in range(before):
        with torch.no_grad():
            twins.applied(hidden_states=given)

    def capture() -> torch.Tensor:
        with torch.no_grad(), torch.cuda.graph(graph):
            result: torch.Tensor = twins.applied(hidden_states=given)
        return result

    for answer in unless_refused(capture):
        given.copy_(other)
        graph.replay()
        torch.cuda.synchronize()
        with torch.no_grad():
            assert_near(answer, twins.eager(hidden_states=other))


@clause("RUN-46")
@pytest.mark.usefixtures("gpu_alone")
def test_refusals_leak_no_memory_of_the_gpu(twins: Pair) -> None:
    def refuse(number: int) -> None:
        bad = blocks.normal(1 << 14, blocks.WIDTH, seed=number)
        ended = attempt(partial(twins.applied, hidden_states=bad))
        assert ended.error is not None, f"call {number} was answered, not refused"

    for number in range(20):  # allocators settle
        refuse(number)
    before = gauges.resident_bytes()
    for number in range(200):
        refuse(number)

    assert gauges.resident_bytes() - before < 32 << 20


@clause("RUN-45")
@pytest.mark.parametrize("name", ["hidden_states", "scale"])
def test_tensors_on_the_cpu_are_right_or_refused(
    twins: Pair, name: str, seed: int
) -> None:
    kwargs = blocks.call(seed=seed).kwargs
    there = {"hidden_states": kwargs["hidden_states"].cpu(), "scale": torch.tensor(1.0)}

    given = {**kwargs, name: there[name]}
    assert_equal_or_refused(twins, blocks.call()._replace(kwargs=given))
