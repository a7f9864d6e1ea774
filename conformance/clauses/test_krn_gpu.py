"""Chapter KRN: backends of attention on a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from conformance.adapter import Call
from conformance.clauses._attention import (
    ON_GPUS,
    assert_ranges_hold,
    compiled,
    fused,
    launched,
    twins,
)
from conformance.models import attention
from conformance.models.attention import Attending
from conformance.spec import clause
from conformance.workbench import assert_agrees, refuses

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.adapter_graphs import ChoosesAttention
    from conformance.cache import PackageCache

pytestmark = pytest.mark.usefixtures("on_a_gpu")


@clause("KRN-25")
@pytest.mark.parametrize("backend", ON_GPUS)
def test_a_backend_of_a_gpu_answers_as_eager_does(
    impl: Adapter, cache: PackageCache, backend: str, seed: int
) -> None:
    assert_agrees(twins(impl, cache, backend, seed), attention.call(seed=seed + 1))


@clause("KRN-26")
@pytest.mark.parametrize("backend", ON_GPUS)
def test_the_chosen_backend_is_what_a_gpu_launches(
    impl: ChoosesAttention, cache: PackageCache, backend: str, seed: int
) -> None:
    applied, call = twins(impl, cache, backend, seed).applied, attention.call()

    with torch.no_grad():
        found = launched(lambda: applied(*call.args))

    assert found == fused(backend)
    assert list(impl.attention(compiled(cache, backend))) == [backend]


@clause("KRN-27")
@pytest.mark.parametrize("backend", ["flash", "cudnn"])
def test_a_dtype_that_a_backend_cannot_take_is_refused(
    impl: ChoosesAttention, backend: str
) -> None:
    module, (x,) = attention.seeded(Attending).float(), attention.call().args
    call = Call((x.float(),))

    with refuses() as refusal:
        impl.export_attending(module, call, backend)

    assert backend in str(refusal)


@clause("KRN-28")
@pytest.mark.parametrize("backend", ON_GPUS)
def test_ranges_hold_under_a_backend_of_a_gpu(
    impl: Adapter, cache: PackageCache, backend: str, seed: int
) -> None:
    assert_ranges_hold(impl, cache, backend, seed)
