"""Chapter KRN: the backends of torch's own attention."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel

from conformance.clauses import _attention
from conformance.clauses._applied import unless_refused
from conformance.clauses._attention import BACKENDS, fused, newly_called, twins
from conformance.models import attention
from conformance.models.attention import Attending
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from conformance.adapter import Adapter
    from conformance.adapter_graphs import ChoosesAttention
    from conformance.cache import PackageCache


@clause("KRN-15")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_chosen_backend_answers_as_eager_does(
    impl: Adapter, cache: PackageCache, backend: str, seed: int
) -> None:
    assert_agrees(twins(impl, cache, backend, seed), attention.call(seed=seed + 1))


@clause("KRN-16")
@pytest.mark.usefixtures("on_the_cpu")  # kernels of GPUs are KRN-26's
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_chosen_backend_is_what_compiled_code_calls(
    impl: Adapter, cache: PackageCache, backend: str, seed: int
) -> None:
    def answer() -> Pair:
        pair = twins(impl, cache, backend, seed)
        assert_agrees(pair, attention.call(seed=seed))
        return pair

    assert newly_called(answer) == fused(backend)


@clause("KRN-17")
@pytest.mark.parametrize("name", ["fast", "Flash", ""])
def test_a_backend_that_there_is_not_is_refused_with_those_that_there_are(
    impl: ChoosesAttention, name: str
) -> None:
    with refuses() as refusal:
        impl.export_attending(attention.seeded(Attending), attention.call(), name)

    words = str(refusal)
    wanted = [name, "math", "flash", "efficient", "cudnn"]
    assert [word for word in wanted if word not in words] == []
    # A layer has a name of its own for the argument.
    assert re.search("attention|attn|backend|sdpa", words), words


@clause("KRN-18")
@pytest.mark.usefixtures("on_the_cpu")
@pytest.mark.parametrize("backend", ["cudnn", "efficient"])
def test_a_backend_that_the_device_lacks_is_refused(
    impl: ChoosesAttention, backend: str
) -> None:
    with refuses() as refusal:
        impl.export_attending(attention.seeded(Attending), attention.call(), backend)

    words = str(refusal).lower()
    assert [word for word in (backend, "cpu") if word not in words] == []


@clause("KRN-19")
def test_sizes_that_a_backend_cannot_take_are_refused(impl: ChoosesAttention) -> None:
    module, call = attention.seeded(attention.Uneven), attention.call()

    with refuses() as refusal:
        impl.export_attending(module, call, "flash")

    assert "flash" in str(refusal).lower()


@clause("KRN-20")
def test_a_backend_for_what_does_not_attend_is_refused(impl: ChoosesAttention) -> None:
    module, call = attention.seeded(attention.Unattending), attention.call()

    with refuses() as refusal:
        impl.export_attending(module, call, "flash")

    assert "flash" in str(refusal).lower()


@clause("KRN-21")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_package_says_what_it_attends_with(
    impl: Any, cache: PackageCache, backend: str, tmp_path: Path
) -> None:
    module, call = attention.seeded(Attending), attention.call()
    made = cache.compiled(module, call, attention=backend)
    impl.save(made, tmp_path)

    for compiled in (made, impl.load(tmp_path)):
        assert list(impl.attention(compiled)) == [backend]
        assert backend in impl.describe(compiled)


@clause("KRN-22")
def test_what_a_module_selects_is_kept_or_refused(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = attention.seeded(attention.Selecting, seed)

    _assert_none_fused(impl, lambda: cache.compiled(module, attention.call()), module)


@clause("KRN-22")
def test_what_is_selected_around_an_export_is_kept_or_refused(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = attention.seeded(attention.Surrounded, seed)
    around = partial(sdpa_kernel, SDPBackend.MATH)

    def make() -> Any:
        return cache.compiled(module, attention.call(), around=around)

    _assert_none_fused(impl, make, module)


def _assert_none_fused(
    impl: Adapter, make: Callable[[], Any], module: nn.Module
) -> None:
    """Assert that a module's graph calls no fused backend, or that it is refused."""
    __tracebackhide__ = True

    def answer() -> Pair:
        pair = Pair(module, applied_copy(impl, make(), module))
        assert_agrees(pair, attention.call(seed=3))
        return pair

    found = newly_called(lambda: unless_refused(answer))
    assert found == set(), f"math was selected, compiled code calls {sorted(found)}"


@clause("KRN-23")
def test_a_choice_that_the_module_contradicts_is_kept_or_refused(
    impl: ChoosesAttention, seed: int
) -> None:
    module, call = attention.seeded(attention.Selecting, seed), attention.call()

    for exported in unless_refused(
        lambda: impl.export_attending(module, call, "flash")
    ):
        compiled = impl.compile(exported)
        assert list(impl.attention(compiled)) == ["flash"]


@clause("KRN-24")
@pytest.mark.parametrize("backend", BACKENDS)
def test_ranges_hold_under_a_chosen_backend(
    impl: Adapter, cache: PackageCache, backend: str, seed: int
) -> None:
    _attention.assert_ranges_hold(impl, cache, backend, seed)
