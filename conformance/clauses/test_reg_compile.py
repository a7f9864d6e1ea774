"""Chapter REG: what a compile of blocks tells and takes, and what it looks at."""

from __future__ import annotations

import contextlib
import copy
import io
import re
from typing import TYPE_CHECKING

import pytest
import torch
import tqdm
from torch import nn

from conformance import device, gauges
from conformance.clauses._compiles import lingering_processes
from conformance.clauses._regions import assert_blocks_agree
from conformance.models import blocks, memory, regions
from conformance.spec import clause
from conformance.workbench import Pair, applied_copy, assert_agrees_or_refuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter_graphs import Regional, TellsPeaks

MIB = 1 << 20


def called(row: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = row(**regions.call().kwargs)
    return result


@clause("REG-32")
def test_each_graph_that_is_done_is_told(impl: Regional, seed: int) -> None:
    row = blocks.seeded(regions.uphill, seed)
    told: list[tuple[int, int]] = []

    impl.compile_regions(
        row,
        lambda: called(row),
        progress=lambda done, total, _name: told.append((done, total)),
    )

    assert len(told) >= 2
    assert told == [(done + 1, len(told)) for done in range(len(told))]


@clause("REG-32")
def test_a_bar_is_shown_and_closed(impl: Regional, seed: int) -> None:
    row = blocks.seeded(regions.uphill, seed)
    open_before = len(tqdm.tqdm._instances)

    with contextlib.redirect_stderr(io.StringIO()) as shown:
        impl.compile_regions(row, lambda: called(row), progress=True)

    assert re.search(r"\b2 ?(/|of) ?2\b|\b100 ?%", shown.getvalue()), shown.getvalue()
    assert len(tqdm.tqdm._instances) == open_before


@clause("REG-43")
@pytest.mark.usefixtures("on_the_cpu")  # jobs are forked, which survives no CUDA
def test_graphs_compiled_at_once_are_the_same(impl: Regional, seed: int) -> None:
    row = blocks.seeded(regions.uphill, seed)
    source = copy.deepcopy(row)

    compiled = impl.compile_regions(source, lambda: called(source), jobs=2)

    assert lingering_processes(within_s=5) == []
    assert_blocks_agree(Pair(row, applied_copy(impl, compiled, row)), regions.call())


@clause("REG-41")
def test_compiling_blocks_takes_the_memory_of_one(impl: Regional) -> None:
    row, x = memory.heavy_row(), blocks.normal(1, 2, memory.HEAVY_WIDTH)

    def run() -> None:
        with torch.no_grad():
            row(x)

    run()
    with gauges.peak() as peak:
        impl.compile_regions(row, run)

    assert peak.grown_bytes < memory.HEAVY_BYTES + 192 * MIB


def assert_told(impl: TellsPeaks, compiled: object, seen_bytes: int) -> None:
    __tracebackhide__ = True
    told = impl.peaks(compiled)[torch.device(device.chosen()).type]
    assert abs(told - seen_bytes) < max(seen_bytes / 4, 32 * MIB)


@clause("REG-42")
def test_the_memory_that_compiling_blocks_takes_is_told(
    impl: TellsPeaks, seed: int
) -> None:
    regional: Regional = impl  # type: ignore[assignment]  # a need of the clause
    row = blocks.seeded(lambda: regions.Row(regions.Cell(), regions.Cell()), seed)
    called(row)

    with gauges.peak() as peak:
        compiled = regional.compile_regions(row, lambda: called(row))

    assert_told(impl, compiled, peak.grown_bytes)


@clause("REG-42")
def test_the_memory_that_compiling_a_module_takes_is_told(impl: TellsPeaks) -> None:
    call = memory.bare_call()
    exported = impl.export(blocks.seeded(memory.Bare), call)

    with gauges.peak() as peak:
        compiled = impl.compile(exported)

    assert_told(impl, compiled, peak.grown_bytes)


class Acting(regions.Cell):
    """A Cell with a function that hangs on it.

    Args:
        act: The function.
    """

    def __init__(self, act: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.act = act

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        return super().forward(self.act(hidden_states), mask)


@clause("REG-01")
@pytest.mark.usefixtures("cache")  # it keeps the compiler's headers
def test_blocks_of_one_class_act_by_their_own_functions(
    impl: Regional, seed: int
) -> None:
    cells = Acting(torch.relu), Acting(torch.sin)
    module = blocks.seeded(lambda: regions.Row(*cells, repeated=("Acting",)), seed)

    def make() -> Pair:
        source, call = copy.deepcopy(module), regions.call()
        compiled = impl.compile_regions(source, lambda: source(**call.kwargs))
        return Pair(module, applied_copy(impl, compiled, module))

    assert_agrees_or_refuses(make, [regions.call(seed=1)])
