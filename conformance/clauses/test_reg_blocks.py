"""Chapter REG: which blocks share a graph, and what becomes of those that cannot."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch

from conformance import gauges, pipelines
from conformance.adapter import Call, Refused
from conformance.clauses._applied import unless_refused
from conformance.clauses._regions import (
    assert_block_right_or_refused,
    assert_blocks_agree,
    blocks_of,
    compiled_twofold,
    ran_compiled_blocks,
    state,
)
from conformance.models import blocks, regions
from conformance.parity import assert_parity
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees,
    assert_equal_or_refused,
    attempt,
    refuses,
)

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.adapter_graphs import Regional
    from conformance.cache import PackageCache


@pytest.fixture
def twofold(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(regions.Twofold, seed)
    compiled = compiled_twofold(cache, seed)
    return Pair(module, applied_copy(impl, compiled, module))


def make_uneven(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(regions.Uneven, seed)
    compiled = cache.regions(copy.deepcopy(module), regions.call())
    return Pair(module, applied_copy(impl, compiled, module))


@clause("REG-01")
@pytest.mark.parametrize("draw", range(3))
def test_compiled_blocks_answer_as_eager_does(twofold: Pair, draw: int) -> None:
    assert_blocks_agree(twofold, regions.call(seed=draw))


@clause("REG-02")
def test_compiled_code_answers_in_every_block(twofold: Pair) -> None:
    with torch.no_grad(), ran_compiled_blocks(twofold.applied):
        twofold.applied(**regions.call().kwargs)


@clause("REG-03")
@pytest.mark.parametrize("name", ["plain.0", "plain.1", "plain.2"])
def test_each_block_has_its_own_weights(twofold: Pair, name: str) -> None:
    eager, applied = (twin.get_submodule(name) for twin in twofold)

    assert_agrees(Pair(eager, applied), regions.call(seed=1))


@clause("REG-03")
def test_blocks_called_by_position_have_their_own_weights(twofold: Pair) -> None:
    rope = torch.polar(torch.ones(6, 4), blocks.normal(6, 4, seed=2).cpu())
    x = regions.call(seed=2).kwargs["hidden_states"]
    call = Call((x, rope.to(x.device), 2), {})

    for index in range(4):
        eager, applied = (twin.get_submodule(f"turned.{index}") for twin in twofold)
        assert_agrees(Pair(eager, applied), call)


@clause("REG-03")
@pytest.mark.parametrize("name", ["turned.3", "plain.0"])
def test_blocks_of_a_deep_copy_have_their_own_weights(twofold: Pair, name: str) -> None:
    changed = copy.deepcopy(twofold.eager)

    for twin in unless_refused(lambda: copy.deepcopy(twofold.applied)):
        for module in (twin, changed):
            regions.scaled(module.get_submodule(name))
        assert_equal_or_refused(Pair(changed, twin), regions.call())
        assert_blocks_agree(twofold, regions.call())


@clause("REG-04")
def test_equal_blocks_share_a_graph(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(regions.Twofold, seed)
    compiled = compiled_twofold(cache, seed)
    before = gauges.libraries()

    impl.apply(compiled, module)
    with torch.no_grad(), ran_compiled_blocks(module):
        module(**regions.call().kwargs)

    assert 1 <= len(gauges.libraries() - before) <= 2


@clause("REG-05")
@pytest.mark.parametrize("name", ["wide.0", "wide.1"])
def test_blocks_of_another_width_are_right_or_refused(
    impl: Adapter, cache: PackageCache, seed: int, name: str
) -> None:
    call = Call((blocks.normal(2, 6, 12, seed=3),), {})

    assert_block_right_or_refused(lambda: make_uneven(impl, cache, seed), name, call)


@clause("REG-06")
@pytest.mark.parametrize("name", ["even.1", "even.2"])
def test_blocks_with_another_number_are_right_or_refused(
    impl: Adapter, cache: PackageCache, seed: int, name: str
) -> None:
    call = Call((blocks.normal(2, 6, 8, seed=3),), {})

    assert_block_right_or_refused(lambda: make_uneven(impl, cache, seed), name, call)


@clause("REG-07")
@pytest.mark.parametrize("name", ["even.0", "masked"])
def test_blocks_called_in_another_form_are_right_or_refused(
    impl: Adapter, cache: PackageCache, seed: int, name: str
) -> None:
    mask = torch.arange(8, device=blocks.normal(1).device).remainder(2).float()
    calls = [{}, {"mask": mask}]

    for others in calls:
        call = Call((blocks.normal(2, 6, 8, seed=3),), others)
        assert_block_right_or_refused(
            lambda: make_uneven(impl, cache, seed), name, call
        )


@clause("REG-08")
@pytest.mark.parametrize("repeated", [(), ("Nobody",)])
def test_no_match_is_refused(impl: Regional, repeated: tuple[str, ...]) -> None:
    row = blocks.seeded(lambda: regions.Row(regions.Cell(), repeated=repeated))

    with refuses():
        compiled = impl.compile_regions(row, lambda: row(**regions.call().kwargs))
        impl.apply(compiled, row)


@clause("REG-08")
def test_a_name_that_matches_nothing_is_refused(impl: Regional) -> None:
    row = blocks.seeded(lambda: regions.Row(regions.Cell(), regions.Cell()))

    with refuses():
        compiled = impl.compile_regions(
            row, lambda: row(**regions.call().kwargs), blocks=["Cell", "Nobody"]
        )
        impl.apply(compiled, row)


@clause("REG-09")
def test_named_blocks_are_compiled_and_no_others(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    row = blocks.seeded(regions.asking, seed)
    compiled = cache.regions(
        copy.deepcopy(row), regions.call(), blocks=["cells.0", "cells.1"]
    )
    twins = Pair(row, applied_copy(impl, compiled, row))

    assert_blocks_agree(twins, regions.call(), eager=["cells.2"])
    with pytest.raises(AssertionError), ran_compiled_blocks(twins.applied):
        twins.applied(**regions.call().kwargs)


@clause("REG-10")
def test_a_block_that_cannot_be_compiled_is_named(impl: Regional, seed: int) -> None:
    row = blocks.seeded(regions.asking, seed)

    with refuses() as refusal:
        impl.compile_regions(row, lambda: row(**regions.call().kwargs))

    assert "cells.2" in str(refusal)


@clause("REG-11")
def test_what_is_left_eager_is_told(
    impl: Regional, cache: PackageCache, seed: int
) -> None:
    row = blocks.seeded(regions.asking, seed)
    compiled = cache.regions(copy.deepcopy(row), regions.call(), leave_eager=True)
    twins = Pair(row, applied_copy(impl, compiled, row))

    assert list(impl.eager_blocks(compiled)) == ["cells.2"]
    for draw in range(3):
        # The last block asks for a sum's sign, which float64 may see otherwise.
        with torch.no_grad(), ran_compiled_blocks(twins.applied, ["cells.2"]):
            actual = twins.applied(**regions.call(seed=draw).kwargs)
        want = row(**regions.call(seed=draw).kwargs)
        assert_parity(actual, want, want.double())


@clause("REG-12")
def test_a_block_that_is_not_called_is_named(impl: Regional, seed: int) -> None:
    row = blocks.seeded(
        lambda: regions.Row(regions.Cell(), regions.Cell(slope=0.3), called=1), seed
    )

    with refuses() as refusal:
        impl.compile_regions(row, lambda: row(**regions.call().kwargs))

    assert "cells.1" in str(refusal)


class Foreign(Exception):
    """Raised by the user's own code."""


@clause("REG-13")
def test_a_failed_run_leaves_the_module_as_it_was(impl: Regional, seed: int) -> None:
    module = blocks.seeded(regions.Twofold, seed)
    before, want = state(module), module(**regions.call().kwargs)

    def run() -> None:
        raise Foreign("no more disk")

    ended = attempt(lambda: impl.compile_regions(module, run))

    assert isinstance(ended.error, (Foreign, Refused))
    assert "no more disk" in str(ended.error)
    assert state(module) == before
    assert torch.equal(module(**regions.call().kwargs), want)


@clause("REG-14")
def test_a_recording_keeps_one_call_of_each_form(impl: Regional) -> None:
    row = blocks.seeded(
        lambda: regions.Row(*(regions.Cell() for _ in range(24)), called=24)
    )
    x = blocks.normal(1, 2**15, regions.WIDTH)
    kept: list[int] = []

    def run() -> None:
        try:
            row(hidden_states=x)
        finally:  # an implementation may cut the run short
            kept.append(len(gauges.tensors(x.nbytes)))
        raise Foreign("that was enough")

    before = len(gauges.tensors(x.nbytes))
    with torch.no_grad():
        attempt(lambda: impl.compile_regions(row, run))
    kept.append(len(gauges.tensors(x.nbytes)))

    assert all(count - before <= 4 for count in kept)


@clause("REG-15")
@pytest.mark.parametrize("scale", [0.25, 1])
def test_a_number_that_was_left_out_counts(twofold: Pair, scale: float) -> None:
    eager, applied = (twin.get_submodule("plain.1") for twin in twofold)

    assert_equal_or_refused(Pair(eager, applied), regions.call(scale=scale))


@clause("REG-30", deadline_s=600)
def test_a_pipeline_with_compiled_blocks_gives_the_picture_of_eager(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    case = pipelines.load("flux")
    call = case.first_call()
    eager, exact = case.run(seed), case.run_exactly(seed)
    compiled = cache.regions(case.module, call, run=case.run)

    impl.apply(compiled, case.module)
    assert len(blocks_of(case.module)) > 2
    with ran_compiled_blocks(case.module):
        actual = case.run(seed)

    assert_parity(actual, eager, exact.double())


@clause("REG-31")
def test_buffers_outside_of_the_state_dict_are_the_blocks(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    row = blocks.seeded(regions.tabled, seed)
    compiled = cache.regions(copy.deepcopy(row), regions.call())

    assert_blocks_agree(Pair(row, applied_copy(impl, compiled, row)), regions.call())
