"""Chapter REG: blocks that graphs were applied to, and what is done to them after."""

from __future__ import annotations

import pickle
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given

from conformance.clauses import _loads
from conformance.clauses._applied import unless_refused
from conformance.clauses._regions import (
    assert_agrees_or_names,
    assert_answered_as_heard,
    assert_blocks_agree,
    assert_drops_or_refuses,
    blocks_of,
    compiled_twofold,
    listened,
    ran_compiled_blocks,
    state,
)
from conformance.fresh import fresh_python
from conformance.models import blocks, regions
from conformance.spec import clause
from conformance.strategies import sizes
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_equal_or_refused,
    ran_compiled,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from conformance.adapter import Adapter, Packages, Restores
    from conformance.cache import PackageCache


@pytest.fixture
def compiled(cache: PackageCache, seed: int) -> Any:
    return compiled_twofold(cache, seed)


@pytest.fixture
def twofold(impl: Adapter, compiled: Any, seed: int) -> Pair:
    """Give a pair that was called: what is native is there."""
    module = blocks.seeded(regions.Twofold, seed)
    twins = Pair(module, applied_copy(impl, compiled, module))
    twins.applied(**regions.call().kwargs)
    return twins


@clause("REG-15")
@pytest.mark.parametrize("times", [3, True, 2.5])
def test_a_number_in_the_call_of_a_block_counts(twofold: Pair, times: Any) -> None:
    assert_equal_or_refused(twofold, regions.call(times=times))


@clause("REG-16")
@given(tokens=sizes(regions.TOKENS))
def test_ranges_hold_inside_of_blocks(twofold: Pair, tokens: int) -> None:
    assert_blocks_agree(twofold, regions.call(tokens, seed=tokens))


@clause("REG-17")
@pytest.mark.parametrize("tokens", [1, 33])
def test_a_size_outside_of_the_range_is_refused(twofold: Pair, tokens: int) -> None:
    with refuses() as refusal:
        twofold.applied(**regions.call(tokens).kwargs)

    assert "hidden_states" in str(refusal)


@clause("REG-18")
@pytest.mark.parametrize("times", [0, 1])
@pytest.mark.parametrize(
    "damage",
    [
        regions.drops_a_weight,
        regions.reshapes_a_weight,
        regions.widens_a_weight,
        regions.drops_a_buffer,
    ],
)
def test_apply_is_all_or_nothing(
    impl: Adapter,
    compiled: Any,
    seed: int,
    damage: Callable[[nn.Module], None],
    times: int,
) -> None:
    module = blocks.seeded(regions.Twofold, seed)
    for _ in range(times):
        impl.apply(compiled, module)
    damage(module)
    before = state(module)

    with refuses():
        impl.apply(compiled, module)

    assert state(module) == before


@clause("REG-19")
@pytest.mark.parametrize(
    "change",
    [
        regions.adds_a_block,
        regions.drops_a_block,
        regions.exchanges_a_block,
        regions.steepens_a_block,
    ],
)
def test_other_blocks_are_compiled_or_refused(
    impl: Adapter,
    compiled: Any,
    seed: int,
    change: Callable[[nn.Module], None],
) -> None:
    module = blocks.seeded(regions.Twofold, seed)
    change(module)

    for twin in unless_refused(lambda: applied_copy(impl, compiled, module)):
        assert_blocks_agree(Pair(module, twin), regions.call())


@clause("REG-20")
@pytest.mark.parametrize("name", ["turned.3", "plain.1"])
@pytest.mark.parametrize(
    "change",
    [regions.replaced, regions.exchanged_data, regions.exchanged_child],
)
def test_a_weight_that_changes_counts_in_its_block(
    twofold: Pair, name: str, change: Callable[[nn.Module], None]
) -> None:
    for twin in twofold:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            change(twin.get_submodule(name))

    assert_equal_or_refused(twofold, regions.call())


@clause("REG-20")
@pytest.mark.parametrize(
    "name",
    [
        *("turned.0.proj.weight", "turned.3.out.bias"),
        *("plain.0.proj.weight", "plain.1.shift", "plain.2.proj.bias"),
    ],
)
def test_a_weight_changed_in_place_counts(twofold: Pair, name: str) -> None:
    for twin in twofold:
        attrgetter(name)(twin).mul_(2)

    assert_equal_or_refused(twofold, regions.call())


@clause("REG-21")
@pytest.mark.parametrize("name", ["turned.1", "plain.1"])
def test_an_adapter_that_is_fused_counts(twofold: Pair, name: str) -> None:
    layer = twofold.eager.get_submodule(f"{name}.proj")
    delta = regions.Adapter(layer, seed=3).delta()

    for sign in (1, -1):
        for twin in twofold:
            twin.get_parameter(f"{name}.proj.weight").data.add_(sign * delta)
        assert_blocks_agree(twofold, regions.call())


@clause("REG-22")
@pytest.mark.parametrize("name", ["turned.2", "plain.1"])
def test_an_adapter_that_adds_layers_is_named(twofold: Pair, name: str) -> None:
    for twin in twofold:
        block = twin.get_submodule(name)
        block.proj = regions.Adapter(block.get_submodule("proj"), seed=4).eval()

    assert_agrees_or_names(twofold, regions.call(), "proj")


@clause("REG-23")
@pytest.mark.parametrize("name", ["plain.0", "plain.1.drop", "plain.2"])
def test_a_block_in_training_mode_is_honoured_or_refused(
    twofold: Pair, name: str
) -> None:
    twofold.applied.get_submodule(name).train()

    assert_drops_or_refuses(twofold.applied, regions.call())


@clause("REG-24")
@pytest.mark.parametrize("name", ["turned.0", "turned.3", "plain.0", "plain.1"])
def test_hooks_on_a_block_run_once(twofold: Pair, name: str) -> None:
    heard = [listened(twin.get_submodule(name)) for twin in twofold]

    assert_answered_as_heard(twofold, heard)


@clause("REG-24")
@pytest.mark.parametrize("name", ["turned.1", "plain.2"])
def test_hooks_from_before_apply_run_once(
    impl: Adapter, compiled: Any, seed: int, name: str
) -> None:
    twins = Pair(*(blocks.seeded(regions.Twofold, seed) for _ in range(2)))
    heard = [listened(twin.get_submodule(name)) for twin in twins]

    for _ in unless_refused(lambda: impl.apply(compiled, twins.applied)):
        assert_answered_as_heard(twins, heard)


@clause("REG-25")
@pytest.mark.parametrize("name", ["turned.2.proj", "turned.3.out", "plain.2.drop"])
def test_a_hook_within_a_block_runs_or_is_refused(twofold: Pair, name: str) -> None:
    for twin in twofold:
        child = twin.get_submodule(name)
        child.register_forward_hook(lambda _child, _args, result: 2 * result)

    assert_equal_or_refused(twofold, regions.call())


@clause("REG-26")
@pytest.mark.parametrize("times", [1, 2])
def test_restore_gives_the_blocks_back(
    impl: Restores, compiled: Any, twofold: Pair, times: int
) -> None:
    for _ in range(times - 1):
        unless_refused(lambda: impl.apply(compiled, twofold.applied))
    for twin in twofold:
        regions.scaled(twin.get_submodule("plain.1"))

    impl.restore(twofold.applied)

    assert torch.equal(
        twofold.applied(**regions.call().kwargs), twofold.eager(**regions.call().kwargs)
    )
    for block in blocks_of(twofold.applied).values():
        with pytest.raises(AssertionError, match="eager code ran"), ran_compiled(block):
            twofold.applied(**regions.call().kwargs)


@clause("REG-26")
def test_a_second_restore_is_refused(impl: Restores, twofold: Pair) -> None:
    impl.restore(twofold.applied)

    with refuses():
        impl.restore(twofold.applied)


@clause("REG-27")
def test_a_cold_process_loads_compiled_blocks(
    impl: Packages, compiled: Any, adapter_name: str, tmp_path: Path, seed: int
) -> None:
    impl.save(compiled, tmp_path)

    task = "conformance.clauses._loads:answer_of_blocks"
    found = fresh_python(task, adapter_name, str(tmp_path), seed).value

    eager = blocks.seeded(regions.Twofold, seed)
    _loads.assert_told(found, eager, regions.call(seed=seed))


@clause("REG-28")
def test_pickled_blocks_are_right_or_refused(
    impl: Adapter, compiled: Any, seed: int
) -> None:
    module = blocks.seeded(regions.Twofold, seed)

    for twin in unless_refused(lambda: pickle.loads(pickle.dumps(compiled))):  # noqa: S301  # our own
        assert_blocks_agree(
            Pair(module, applied_copy(impl, twin, module)), regions.call()
        )


@clause("REG-28")
def test_a_pickled_module_is_right_or_refused(twofold: Pair) -> None:
    for twin in unless_refused(lambda: pickle.loads(pickle.dumps(twofold.applied))):  # noqa: S301  # our own
        assert_blocks_agree(Pair(twofold.eager, twin), regions.call())


@clause("REG-29")
def test_one_compile_serves_several_modules(
    impl: Adapter, compiled: Any, seed: int
) -> None:
    modules = [blocks.seeded(regions.Twofold, seed + each) for each in range(2)]
    twins = [Pair(each, applied_copy(impl, compiled, each)) for each in modules]

    for draw in range(2):
        for pair in twins:
            with ran_compiled_blocks(pair.applied):
                assert_blocks_agree(pair, regions.call(seed=draw))
