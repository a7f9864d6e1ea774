"""Chapter QNT: modules with quantised weights, exported, compiled and applied."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from conformance import gauges, tensors
from conformance.clauses import _loads
from conformance.clauses._applied import unless_refused
from conformance.isolated import fresh_python
from conformance.models import quantised
from conformance.models.quantised import Mlp, Single
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    pair,
    refuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conformance.adapter import Adapter, Packages
    from conformance.adapter_graphs import Quantises
    from conformance.cache import PackageCache

LAYER = "up"


@pytest.fixture
def twins(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Give a pair with quantised weights, that was called."""
    module = quantised.quantised(Mlp, seed)
    made = pair(impl, cache, module, quantised.call())
    with torch.no_grad():
        made.applied(*quantised.call().args)
    return made


def _weight(module: nn.Module) -> Any:
    return module.get_parameter(f"{LAYER}.weight")


@clause("QNT-01")
@pytest.mark.parametrize("number", [0, 1, 2])
def test_quantised_weights_answer_as_eager(twins: Pair, number: int) -> None:
    assert_agrees(twins, quantised.call(seed=number))


@clause("QNT-05")
def test_the_module_keeps_its_quantised_weights(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = quantised.quantised(Mlp, seed)
    compiled = cache.compiled(copy.deepcopy(module), quantised.call())
    before, keys = _held(module), list(module.state_dict())

    impl.apply(compiled, module)
    with torch.no_grad():
        module(*quantised.call().args)

    assert (_held(module), list(module.state_dict())) == (before, keys)


@clause("QNT-05")
@pytest.mark.usefixtures("cache")  # it keeps the compiler's headers
def test_compiling_leaves_quantised_weights(impl: Adapter, seed: int) -> None:
    module, call = quantised.quantised(Mlp, seed), quantised.call()
    before, keys = _held(module), list(module.state_dict())

    exported = impl.export(module, call)
    assert (_held(module), list(module.state_dict())) == (before, keys)
    impl.compile(exported)

    with torch.no_grad():
        module(*call.args)
    assert list(module.state_dict()) == keys


def _held(module: nn.Module) -> dict[str, Any]:
    """List what every parameter holds, by identity of the parameter and address."""
    return {
        f"{name}.{inner}": (id(weight), tensor.data_ptr(), tensor.dtype)
        for name, weight in module.named_parameters()
        for inner, tensor in tensors.inside(weight)
    }


def _scale(module: nn.Module) -> None:
    _inner(module, torch.float32)[::2].mul_(4)


def _all_scales(module: nn.Module) -> None:
    _inner(module, torch.float32).mul_(0.25)


def _values(module: nn.Module) -> None:
    held = _inner(module, torch.float8_e4m3fn)
    held.copy_(held.flip(0))


def _inner(module: nn.Module, dtype: torch.dtype) -> torch.Tensor:
    held = [t for _, t in tensors.inside(_weight(module)) if t.dtype is dtype]
    return held[0]


@clause("QNT-06")
@pytest.mark.parametrize("change", [_scale, _all_scales, _values])
def test_scales_and_values_count(
    twins: Pair, change: Callable[[nn.Module], None]
) -> None:
    for module in twins:
        change(module)

    assert_equal_or_refused(twins, quantised.call(seed=1))


def _loaded(module: nn.Module) -> None:
    other = quantised.quantised(Mlp, seed=7)
    module.load_state_dict(other.state_dict())


def _assigned(module: nn.Module) -> None:
    other = quantised.quantised(Mlp, seed=7)
    module.load_state_dict(other.state_dict(), assign=True)
    module.requires_grad_(requires_grad=False)


def _exchanged(module: nn.Module) -> None:
    other = quantised.quantised(Mlp, seed=7)
    setattr(module, LAYER, other.get_submodule(LAYER))


def _computed_anew(module: nn.Module) -> None:
    weight = nn.Parameter(_weight(module).dequantize() * 3, requires_grad=False)
    module.get_submodule(LAYER).register_parameter("weight", weight)
    quantised.quantise(module, only=LAYER)


@clause("QNT-07")
@pytest.mark.parametrize("change", [_loaded, _assigned, _exchanged, _computed_anew])
def test_other_quantised_weights_count(
    twins: Pair, change: Callable[[nn.Module], None]
) -> None:
    for module in twins:
        change(module)

    assert_equal_or_refused(twins, quantised.call(seed=1))


def _of(scheme: str, seed: int) -> nn.Module:
    if scheme == "plain":
        return quantised.plain(Mlp, seed)
    return quantised.quantised(Mlp, seed, scheme)


@clause("QNT-08")
@pytest.mark.parametrize(
    ("exported", "applied"),
    [
        ("weight_only", "plain"),
        ("plain", "weight_only"),
        ("weight_only", "weight_only_per_tensor"),
    ],
)
def test_weights_of_another_scheme_are_right_or_refused(
    impl: Adapter, cache: PackageCache, exported: str, applied: str, seed: int
) -> None:
    module = _of(applied, seed)

    def make() -> Pair:
        compiled = cache.compiled(_of(exported, seed), quantised.call())
        return Pair(module, applied_copy(impl, compiled, module))

    assert_agrees_or_refuses(make, [quantised.call(seed=1)])


@clause("QNT-09")
def test_weights_quantised_after_apply_count(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    twins = pair(impl, cache, quantised.plain(Mlp, seed), quantised.call())
    for module in twins:
        quantised.quantise(module)

    assert_equal_or_refused(twins, quantised.call(seed=1))


@clause("QNT-10")
def test_a_package_holds_no_quantised_weights(
    impl: Packages, cache: PackageCache, tmp_path: Path, seed: int
) -> None:
    compiled = _single(cache, seed)

    impl.save(compiled, tmp_path)

    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(sizes) < 8 << 20


@clause("QNT-11")
def test_a_cold_process_loads_a_quantised_graph(
    impl: Packages, cache: PackageCache, adapter_name: str, tmp_path: Path, seed: int
) -> None:
    module = quantised.quantised(Mlp, seed)
    impl.save(cache.compiled(copy.deepcopy(module), quantised.call()), tmp_path)

    task = "conformance.clauses._loads:answer_of_quantised"
    found = fresh_python(task, adapter_name, str(tmp_path), seed).value

    with torch.no_grad():
        want = module(*quantised.call().args)
    near = _loads.NEAR
    torch.testing.assert_close(
        torch.tensor(found), want.float().cpu(), rtol=near, atol=near
    )


def _single(cache: PackageCache, seed: int) -> Any:
    call = quantised.call(width=quantised.LARGE)
    return cache.compiled(quantised.quantised(Single, seed), call)


@clause("QNT-12")
@pytest.mark.usefixtures("gpu_alone")
def test_quantised_weights_are_there_once(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    compiled, module = _single(cache, seed), quantised.quantised(Single, seed)
    call = quantised.call(width=quantised.LARGE)
    held = quantised.stored_bytes(module.get_parameter("proj.weight"))
    with torch.no_grad():
        module(*call.args)
        before = gauges.used_bytes()

        impl.apply(compiled, module)
        module(*call.args)
        module(*call.args)

    assert gauges.used_bytes() - before < held / 2


@clause("QNT-13")
def test_ranges_hold_with_quantised_weights(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    ranges = {"x": {0: quantised.ROWS}}
    module = quantised.quantised(Mlp, seed)
    twins = pair(impl, cache, module, quantised.call(), dynamic=ranges)

    for rows in (2, 3, 7, 16):
        assert_agrees(twins, quantised.call(rows))
    for rows in (1, 17):
        with refuses():
            twins.applied(*quantised.call(rows).args)


@clause("QNT-16")
def test_a_saved_quantised_module_is_right_or_refused(
    twins: Pair, tmp_path: Path
) -> None:
    path = tmp_path / "module.pt"

    for _ in unless_refused(lambda: torch.save(twins.applied, path)):
        read = partial(torch.load, path, weights_only=False)
        for module in unless_refused(read):
            assert_agrees(Pair(twins.eager, module), quantised.call(seed=1))


@clause("QNT-09")
def test_weights_quantised_between_export_and_apply_count(
    impl: Quantises, cache: PackageCache, seed: int
) -> None:
    compiled = cache.compiled(quantised.plain(Mlp, seed), quantised.call())
    module = quantised.plain(Mlp, seed)
    impl.quantize(module, "weight_only")

    assert_agrees_or_refuses(
        lambda: Pair(module, applied_copy(impl, compiled, module)),
        [quantised.call(seed=1)],
    )
