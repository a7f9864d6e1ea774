"""Chapter QNT: products of FP8, and the process in which models are quantised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from conformance.clauses._applied import unless_refused
from conformance.fresh import fresh_python
from conformance.models import quantised
from conformance.models.quantised import Deep, Mlp
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_equal_or_refused,
    pair,
)

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

SCHEMES = ["per_row", "per_tensor"]
# How CUTLASS, cuBLAS and Triton call kernels that multiply FP8.
NAMES = ("e4m3", "fp8", "f8f8", "scaled_mm", "qmma", "float8")


@clause("QNT-19")
@pytest.mark.usefixtures("on_the_cpu")
def test_quantising_on_a_cpu_starts_no_cuda(adapter_name: str, seed: int) -> None:
    task = "conformance.clauses._workers:starts_of_cuda_when_quantised"
    done = fresh_python(task, adapter_name, seed)

    assert done.value == {"asked": [], "started": False, "driver": False}


def _twins(impl: Adapter, cache: PackageCache, scheme: str, seed: int) -> Pair:
    module = quantised.quantised(Mlp, seed, scheme)
    return pair(impl, cache, module, quantised.call(32))


@clause("QNT-20")
@pytest.mark.usefixtures("on_fp8")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_products_of_fp8_answer_as_eager(
    impl: Adapter, cache: PackageCache, scheme: str, seed: int
) -> None:
    assert_agrees(_twins(impl, cache, scheme, seed), quantised.call(32, seed=seed + 1))


@clause("QNT-21")
@pytest.mark.usefixtures("on_fp8")
def test_products_of_fp8_are_what_runs(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    applied, call = _twins(impl, cache, "per_row", seed).applied, quantised.call(32)
    with torch.no_grad():
        applied(*call.args)
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            applied(*call.args)
            torch.cuda.synchronize()

    names = [event.name.lower() for event in seen.events()]
    products = [name for name in names if any(word in name for word in NAMES)]
    assert len(products) >= len(quantised.EVEN), names


@clause("QNT-22")
@pytest.mark.usefixtures("on_fp8")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_number_of_rows_is_right_or_refused(
    impl: Adapter, cache: PackageCache, scheme: str, seed: int
) -> None:
    module = quantised.quantised(Deep, seed, scheme)
    ranges = {"x": {0: quantised.MANY_ROWS}}

    def make() -> Pair:
        call = quantised.call(64, width=quantised.DEPTH)
        return pair(impl, cache, module, call, dynamic=ranges)

    for twins in unless_refused(make):
        for rows in (1, 16, 17, 127, 255, 256, 257):
            call = quantised.call(rows, seed=rows, width=quantised.DEPTH)
            assert_equal_or_refused(twins, call)


@clause("QNT-23")
@pytest.mark.usefixtures("on_fp8")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_fp8_is_within_20_db_of_bfloat16(
    impl: Adapter, cache: PackageCache, scheme: str, seed: int
) -> None:
    applied: Any = _twins(impl, cache, scheme, seed).applied
    plain, call = quantised.plain(Mlp, seed), quantised.call(32, seed=seed + 1)

    with torch.no_grad():
        found, wanted = applied(*call.args).double(), plain(*call.args).double()

    noise = (found - wanted).norm() / wanted.norm()
    assert 20 * torch.log10(1 / noise) >= 20
