"""Chapter REG: what a compile of blocks tells, and the memory that it takes."""

from __future__ import annotations

import contextlib
import copy
import io
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
from conformance.workbench import Pair, applied_copy

if TYPE_CHECKING:
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

    assert "2/2" in shown.getvalue()
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
