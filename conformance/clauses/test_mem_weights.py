"""Chapter MEM: the memory that weights take, and when it is given back."""

from __future__ import annotations

import gc
import pickle
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from conformance import device, gauges
from conformance.clauses import _memory, _threads
from conformance.clauses._applied import unless_refused
from conformance.clauses._memory import WIDE_BYTES
from conformance.models import applying, blocks, memory
from conformance.models.memory import TIED_BYTES
from conformance.spec import clause
from conformance.workbench import Pair, attempt

if TYPE_CHECKING:
    from conformance.adapter import Adapter, Restores
    from conformance.cache import PackageCache

pytestmark = pytest.mark.usefixtures("gpu_alone")

CODE_BYTES = 24 << 20
SLACK_BYTES = 16 << 20


@clause("MEM-01")
def test_loading_takes_no_memory_for_weights(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    compiled = _memory.compiled_wide(cache, seed)
    module, call = blocks.seeded(applying.Wide, seed), applying.wide_call()
    module(*call.args)
    before = gauges.used_bytes()

    impl.apply(compiled, module)
    module(*call.args)

    assert gauges.used_bytes() - before < 0.02 * WIDE_BYTES + CODE_BYTES


@clause("MEM-02")
def test_loading_has_no_peak(impl: Adapter, cache: PackageCache, seed: int) -> None:
    compiled = _memory.compiled_wide(cache, seed)
    module, call = blocks.seeded(applying.Wide, seed), applying.wide_call()
    module(*call.args)

    with gauges.peak() as peak:
        impl.apply(compiled, module)
        module(*call.args)

    assert peak.grown_bytes < WIDE_BYTES / 2


@clause("MEM-03")
def test_a_restored_module_is_all_that_is_left(
    impl: Restores, cache: PackageCache, seed: int
) -> None:
    compiled, call = _memory.compiled_wide(cache, seed), applying.wide_call()
    blocks.seeded(applying.Wide, seed)(*call.args)  # libraries take memory of their own
    without = gauges.used_bytes()
    module = blocks.seeded(applying.Wide, seed)
    alone = gauges.used_bytes()
    impl.apply(compiled, module)
    module(*call.args)

    impl.restore(module)
    restored = gauges.used_bytes()
    del module
    deleted = gauges.used_bytes()

    assert restored - alone < SLACK_BYTES
    assert deleted - without < SLACK_BYTES


@clause("MEM-04")
def test_a_deleted_module_gives_its_memory_back(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    compiled, call = _memory.compiled_wide(cache, seed), applying.wide_call()
    blocks.seeded(applying.Wide, seed)(*call.args)  # libraries take memory of their own
    before = gauges.used_bytes()
    module = blocks.seeded(applying.Wide, seed)
    impl.apply(compiled, module)
    module(*call.args)

    del module

    assert gauges.used_bytes() - before < SLACK_BYTES
    assert compiled is not None


@clause("MEM-05")
def test_exchanged_weights_are_let_go(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    compiled, call = _memory.compiled_wide(cache, seed), applying.wide_call()
    module = blocks.seeded(applying.Wide, seed)
    impl.apply(compiled, module)
    module(*call.args)
    before = gauges.used_bytes()

    for number in range(4):
        weight = blocks.normal(4096, 4096, seed=number)
        proj = module.get_submodule("proj")
        proj.weight = nn.Parameter(weight, requires_grad=False)
        del weight
        unless_refused(lambda: module(*call.args))

    assert gauges.used_bytes() - before < WIDE_BYTES / 2


@clause("MEM-06")
def test_weights_that_are_taken_away_are_gone(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = _memory.tied(impl, cache, seed)
    before = gauges.used_bytes()

    module.get_parameter("encode.weight").data = torch.empty(0, device=device.chosen())

    assert before - gauges.used_bytes() > TIED_BYTES / 2


@clause("MEM-07")
def test_several_graphs_share_one_set_of_weights(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    models = [_memory.compiled_tied(cache, seed, rows) for rows in (2, 3)]
    module = blocks.seeded(memory.Tied, seed)
    applied = [_memory.sharing(module) for _ in models]
    calls = [memory.tied_call(rows) for rows in (2, 3)]
    address = module.get_parameter("encode.weight").data_ptr()
    module(*calls[0].args)  # libraries of the GPU take memory of their own
    before = gauges.used_bytes()

    for model, twin, call in zip(models, applied, calls, strict=True):
        impl.apply(model, twin)
        twin(*call.args)

    assert gauges.used_bytes() - before < TIED_BYTES / 2
    assert {p.data_ptr() for twin in applied for p in twin.parameters()} == {address}
    _memory.assert_both_count([Pair(module, twin) for twin in applied], calls)


@clause("MEM-14")
def test_a_pickled_module_holds_each_weight_once(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = _memory.tied(impl, cache, seed)

    for text in unless_refused(lambda: pickle.dumps(module)):
        assert len(text) < 1.25 * TIED_BYTES


@clause("MEM-14")
def test_a_pickled_compiled_model_holds_no_weights(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    compiled = _memory.compiled_tied(cache, seed)
    module = blocks.seeded(memory.Tied, seed)
    impl.apply(compiled, module)
    module(*memory.tied_call().args)

    for text in unless_refused(lambda: pickle.dumps(compiled)):
        assert len(text) < 0.25 * TIED_BYTES


@clause("MEM-15")
def test_folding_at_the_first_run_keeps_no_second_copy(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module, call = blocks.seeded(memory.Foldable, seed), memory.tied_call()
    eager = _memory.sharing(module)
    options = {"aot_inductor.use_runtime_constant_folding": True}

    for compiled in unless_refused(
        lambda: impl.compile(impl.export(module, call), options=options)
    ):
        before = gauges.used_bytes()
        impl.apply(compiled, module)
        for _ in range(3):
            module.get_parameter("proj.weight").data.mul_(1.5)
            for answer in unless_refused(lambda: module(*call.args)):
                _threads.assert_near(answer, eager(*call.args))
        assert gauges.used_bytes() - before < 1.5 * TIED_BYTES


@clause("MEM-13")
def test_a_result_outlives_what_made_it(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = _memory.tied(impl, cache, seed)
    result = module(*memory.tied_call(seed=1).args)
    kept = result.clone()

    module(*memory.tied_call(seed=2).args)
    again = result.clone()
    attempt(partial(_memory.restored, impl, module))
    del module
    rubbish = _memory.poison(result.nbytes)

    assert torch.equal(again, kept)
    assert torch.equal(result, kept)
    assert rubbish
    gc.collect()
