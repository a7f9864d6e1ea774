"""Chapter MEM: what is done again and again, and what each time leaves behind."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from conformance import gauges
from conformance.clauses import _calls, _memory
from conformance.models import blocks, calls, memory
from conformance.spec import clause
from conformance.workbench import attempt

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter import Adapter, Packages
    from conformance.cache import PackageCache

pytestmark = pytest.mark.usefixtures("gpu_alone")

KIB = 1 << 10


@clause("MEM-08")
def test_loading_again_leaks_nothing(
    impl: Packages, cache: PackageCache, seed: int, tmp_path: Path
) -> None:
    impl.save(_memory.compiled_tied(cache, seed), tmp_path)
    module = blocks.seeded(memory.Tied, seed)

    def load(_number: int) -> None:
        twin = _memory.sharing(module)
        impl.apply(impl.load(tmp_path), twin)
        twin(*memory.tied_call().args)

    load(0)
    before = len(gauges.libraries()), len(gauges.descriptors())
    gauges.assert_leaks_less(64 * KIB, load, steps=40)
    gc.collect()

    libraries, descriptors = len(gauges.libraries()), len(gauges.descriptors())
    assert libraries <= before[0], (
        f"{libraries} libraries are mapped, at first {before[0]}"
    )
    assert descriptors <= before[1], f"{descriptors} are open, at first {before[1]}"


@clause("MEM-09")
def test_calls_leak_nothing(impl: Adapter, cache: PackageCache, seed: int) -> None:
    module = _memory.tied(impl, cache, seed)

    gauges.assert_leaks_less(
        4 * KIB, lambda n: module(*memory.tied_call(seed=n).args), steps=200
    )


@clause("MEM-09")
def test_calls_that_are_refused_leak_nothing(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = _memory.tied(impl, cache, seed)

    def refused(number: int) -> None:
        attempt(partial(module, blocks.normal(2, 2 * memory.SIDE, seed=number)))

    gauges.assert_leaks_less(4 * KIB, refused, steps=200)


@clause("MEM-10")
@pytest.mark.parametrize("when", ["apply", "call"])
def test_refusals_for_the_weights_leak_nothing(
    impl: Adapter, cache: PackageCache, seed: int, when: str
) -> None:
    compiled, call = _memory.compiled_tied(cache, seed), memory.tied_call()
    good = blocks.seeded(memory.Tied, seed)
    applied = _memory.tied(impl, cache, seed)

    def refused_apply(number: int) -> None:
        module = _memory.sharing(good)
        memory.hang_weight(module, blocks.normal(512, 512, seed=number))
        attempt(partial(impl.apply, compiled, module))

    def refused_call(number: int) -> None:
        memory.hang_weight(applied, blocks.normal(512, 512, seed=number))
        attempt(partial(applied, *call.args))

    # That they are refused is what other clauses ask: here it is what they leave.
    step = {"apply": refused_apply, "call": refused_call}[when]
    gauges.assert_leaks_less(128 * KIB, step, steps=40)


@clause("MEM-11")
def test_compiling_leaves_no_tensors_behind(impl: Adapter, cache: PackageCache) -> None:
    known = set(gauges.tensors(least_bytes=1 << 20))
    module, call = blocks.seeded(memory.Bare), memory.bare_call()

    impl.apply(impl.compile(impl.export(module, call)), module)
    module(*call.args)
    del call

    known |= {p.untyped_storage().data_ptr() for p in module.parameters()}
    assert _memory.left_over(known) == []


@clause("MEM-12")
def test_a_call_keeps_nothing_of_its_own(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = _memory.tied(impl, cache, seed)

    (argument,) = memory.tied_call(seed=3).args
    result = module(argument)
    gone: list[Any] = [weakref.ref(argument), weakref.ref(result)]
    addresses = {t.untyped_storage().data_ptr() for t in (argument, result)}
    del argument, result

    assert addresses & set(gauges.tensors()) == set()
    assert [ref for ref in gone if ref() is not None] == []


@clause("MEM-12")
def test_a_call_keeps_nothing_that_stands_in_containers(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    many = _calls.many(impl, cache, seed).applied

    for number in range(3):
        call = calls.many_call(seed=number)
        many(*call.args, **call.kwargs)
    given = [tensor for _, tensor in _calls.tensors(call)]
    gone = [weakref.ref(tensor) for tensor in given]
    addresses = {tensor.untyped_storage().data_ptr() for tensor in given}
    del call, given

    assert addresses & set(gauges.tensors()) == set()
    assert [ref for ref in gone if ref() is not None] == []
