"""Chapter VAR: a module that variants were applied to, its weights, and its copies."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from conformance import gauges
from conformance.clauses import _loads, _memory, _variants
from conformance.clauses._applied import unless_refused
from conformance.clauses._regions import state
from conformance.fresh import fresh_python
from conformance.models import blocks, memory, variants
from conformance.models.blocks import normal
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees,
    assert_equal_or_refused,
    attempt,
    ran_compiled,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conformance.adapter import Adapter, Packages, Restores
    from conformance.adapter_graphs import Variants
    from conformance.cache import PackageCache


@pytest.fixture
def compiled(cache: PackageCache, seed: int) -> Any:
    return _variants.three(cache, seed)


@pytest.fixture
def twins(impl: Adapter, compiled: Any, seed: int) -> Pair:
    """Give a pair of which every graph was called."""
    module = _variants.mixed(seed)
    return _variants.called(Pair(module, applied_copy(impl, compiled, module)))


@clause("VAR-10")
@pytest.mark.usefixtures("gpu_alone")
def test_variants_share_one_set_of_weights(
    impl: Variants, cache: PackageCache, seed: int
) -> None:
    models = [_memory.compiled_tied(cache, seed, rows) for rows in (2, 3)]
    module = blocks.seeded(memory.Tied, seed)
    address = module.get_parameter("encode.weight").data_ptr()
    module(*memory.tied_call().args)  # a GPU's libraries take memory of their own
    before = gauges.resident_bytes()

    impl.apply(impl.combine(models), module)
    with ran_compiled(module):
        answers = [module(*memory.tied_call(rows).args) for rows in (2, 3)]

    assert gauges.resident_bytes() - before < memory.TIED_BYTES / 2
    assert {p.data_ptr() for p in module.parameters()} == {address}
    assert [answer.shape[0] for answer in answers] == [2, 3]


def in_place(module: nn.Module) -> None:
    _variants.change(module)


def loaded(module: nn.Module) -> None:
    module.load_state_dict(blocks.seeded(variants.Mixed, 7).state_dict())


@clause("VAR-11")
@pytest.mark.parametrize("change", [in_place, loaded])
def test_a_change_in_place_counts_in_every_variant(
    twins: Pair, change: Callable[[nn.Module], None]
) -> None:
    for module in twins:
        change(module)

    _variants.assert_all_agree(twins)


def replaced(module: nn.Module) -> None:
    weight = nn.Parameter(normal(8, 8, seed=5), requires_grad=False)
    module.get_submodule("proj").weight = weight


def other_data(module: nn.Module) -> None:
    module.get_parameter("gate.weight").data = normal(8, 8, seed=6)


def other_strides(module: nn.Module) -> None:
    weight = module.get_parameter("proj.weight").clone().t().contiguous().t()
    module.get_submodule("proj").weight = nn.Parameter(weight, requires_grad=False)


def other_layer(module: nn.Module) -> None:
    for name in ("proj", "gate"):
        setattr(module, name, blocks.seeded(lambda: nn.Linear(8, 8), 9))


@clause("VAR-12")
@pytest.mark.parametrize("change", [replaced, other_data, other_strides, other_layer])
@pytest.mark.parametrize("number", range(3), ids=["plain", "masked", "double"])
def test_weights_that_are_exchanged_count_in_every_variant(
    twins: Pair, change: Callable[[nn.Module], None], number: int
) -> None:
    for module in twins:
        change(module)

    assert_equal_or_refused(twins, variants.FORMS[number]())


@pytest.fixture
def counting(cache: PackageCache, seed: int) -> Pair:
    return _variants.called(_variants.on_a_copy(cache, seed, variants.Counting))


@clause("VAR-13", may_refuse="setup")  # CST-16 lets a module that counts be refused
def test_what_one_variant_writes_the_others_read(counting: Pair) -> None:
    for start in (0, 100):
        counting.applied.get_buffer("seen").fill_(start)
        for call in 2 * variants.each_form():
            counting.applied(*call.args, **call.kwargs)

        assert _variants.seen(counting.applied) == start + 6


@clause("VAR-15")
@pytest.mark.parametrize("times", [0, 1])
def test_apply_is_all_or_nothing_for_variants(
    impl: Adapter, compiled: Any, seed: int, times: int
) -> None:
    module = _variants.mixed(seed)
    for _ in range(times):
        impl.apply(compiled, module)
    module.get_submodule("gate").weight = nn.Parameter(
        normal(8, 2), requires_grad=False
    )
    before = state(module)
    want = str(attempt(lambda: module(*variants.call().args)))

    with refuses() as refusal:
        impl.apply(compiled, module)

    assert "gate" in str(refusal)
    assert state(module) == before
    assert str(attempt(lambda: module(*variants.call().args))) == want


@clause("VAR-20")
def test_a_cold_process_loads_every_variant(
    impl: Packages, compiled: Any, adapter_name: str, tmp_path: Path, seed: int
) -> None:
    impl.save(compiled, tmp_path)

    task = "conformance.clauses._loads:answers_of_variants"
    found = fresh_python(task, adapter_name, str(tmp_path), seed).value

    for told, call in zip(found, variants.each_form(seed), strict=True):
        _loads.assert_told(told, _variants.mixed(seed), call)


@clause("VAR-21")
def test_pickled_variants_are_right_or_refused(
    impl: Adapter, compiled: Any, seed: int
) -> None:
    module = _variants.mixed(seed)

    for twin in unless_refused(lambda: pickle.loads(pickle.dumps(compiled))):  # noqa: S301  # our own
        _variants.assert_all_agree(Pair(module, applied_copy(impl, twin, module)))


@clause("VAR-21")
def test_a_pickled_module_is_right_or_refused(twins: Pair) -> None:
    for twin in unless_refused(lambda: pickle.loads(pickle.dumps(twins.applied))):  # noqa: S301  # our own
        _variants.assert_all_agree(Pair(twins.eager, twin))


@clause("VAR-22")
@pytest.mark.parametrize("which", [0, 1], ids=["original", "copy"])
def test_a_deep_copy_has_its_own_weights(twins: Pair, which: int) -> None:
    for twin in unless_refused(lambda: copy.deepcopy(twins.applied)):
        pair = [twins.applied, twin]
        _variants.change(pair[which])
        eager = [twins.eager, twins.eager]
        eager[which] = _variants.changed(twins.eager)

        for found in zip(eager, pair, strict=True):
            _variants.assert_all_agree(Pair(*found))


@clause("VAR-23")
@pytest.mark.parametrize("times", [1, 2])
def test_restore_takes_off_every_variant(
    impl: Restores, compiled: Any, twins: Pair, times: int
) -> None:
    for _ in range(times - 1):
        unless_refused(lambda: impl.apply(compiled, twins.applied))
    for module in twins:
        replaced(module)

    impl.restore(twins.applied)

    for call in (*variants.each_form(), variants.call(9)):
        found, want = (module(*call.args, **call.kwargs) for module in twins)
        assert torch.equal(found, want)


@clause("VAR-23")
def test_a_second_restore_is_refused(impl: Restores, twins: Pair) -> None:
    impl.restore(twins.applied)

    with refuses():
        impl.restore(twins.applied)


@clause("VAR-25")
def test_variants_serve_several_modules(
    impl: Adapter, compiled: Any, seed: int
) -> None:
    modules = [_variants.mixed(seed + number) for number in range(2)]
    twins = [Pair(each, applied_copy(impl, compiled, each)) for each in modules]

    for draw in range(2):
        for pair in twins:
            _variants.assert_all_agree(pair, [draw])


@clause("VAR-26")
def test_hooks_run_once_whichever_graph_answers(twins: Pair) -> None:
    ran: list[str] = []

    def before(_module: nn.Module, args: Any) -> Any:
        ran.append("before")
        return tuple(x[:, :6] for x in args)

    def after(_module: nn.Module, _args: Any, result: torch.Tensor) -> torch.Tensor:
        ran.append("after")
        return result + 1

    for module in twins:
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
    for call in (variants.call(9), variants.double_call(9), variants.masked_call()):
        assert_agrees(twins, call)
        ran.clear()
        twins.applied(*call.args, **call.kwargs)
        assert ran == ["before", "after"]


@clause("VAR-26")
def test_a_hook_amid_the_module_runs_or_is_refused(twins: Pair) -> None:
    for module in twins:
        child = module.get_submodule("gate")
        child.register_forward_hook(lambda _child, _args, result: 2 * result)

    for call in variants.each_form():
        assert_equal_or_refused(twins, call)


@clause("VAR-27")
@pytest.mark.parametrize("number", range(3), ids=["plain", "masked", "double"])
def test_only_graphs_that_are_called_are_loaded(
    impl: Adapter, compiled: Any, seed: int, number: int
) -> None:
    module = _variants.mixed(seed)
    before = gauges.libraries()

    impl.apply(compiled, module)
    for draw in range(2):
        call = variants.FORMS[number](seed=draw)
        with ran_compiled(module):
            module(*call.args, **call.kwargs)

    assert len(gauges.libraries() - before) <= 1
