"""Chapter REG: a FLUX, its adapters, and weights that come and go."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch

from conformance import device
from conformance.clauses import _flux
from conformance.clauses._applied import unless_refused
from conformance.clauses._regions import assert_blocks_agree
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

    Offload = Callable[[nn.Module, Path], None]
    Order = Callable[..., Pair]

ORDERS = [_flux.offloaded_before, _flux.offloaded_after]
HANGINGS = [_flux.adapted_before, _flux.adapted_after]


@pytest.fixture
def in_blocks(cache: PackageCache) -> _flux.Flux:
    return _flux.in_blocks(cache)


@pytest.fixture
def whole(cache: PackageCache) -> _flux.Flux:
    return _flux.whole(cache)


@clause("REG-34", deadline_s=600)
def test_a_lora_fused_into_blocks_counts(impl: Adapter, in_blocks: _flux.Flux) -> None:
    twins = in_blocks.pair(impl)

    _flux.assert_fused_counts(twins, in_blocks.call, assert_blocks_agree)


@clause("REG-35", deadline_s=600)
def test_a_lora_fused_into_a_whole_flux_counts(
    impl: Adapter, whole: _flux.Flux
) -> None:
    twins = whole.pair(impl)

    _flux.assert_fused_counts(twins, whole.call, assert_agrees)


@clause("REG-36", deadline_s=600)
@pytest.mark.parametrize("hung", HANGINGS)
def test_lora_layers_in_blocks_are_named(
    impl: Adapter, in_blocks: _flux.Flux, hung: Order
) -> None:
    _flux.assert_agrees_or_names(
        lambda: hung(impl, in_blocks), in_blocks.call, "attn.to_q"
    )


@clause("REG-37", deadline_s=600)
@pytest.mark.parametrize("hung", HANGINGS)
def test_lora_layers_in_a_whole_flux_are_named(
    impl: Adapter, whole: _flux.Flux, hung: Order
) -> None:
    _flux.assert_agrees_or_names(lambda: hung(impl, whole), whole.call, "attn.to_q")


@clause("REG-38", deadline_s=600)
def test_blocks_applied_to_an_offloaded_pipeline_are_right_or_refused(
    impl: Adapter, in_blocks: _flux.Flux
) -> None:
    case, call = in_blocks.case, in_blocks.call
    eager = copy.deepcopy(case.module)
    case.pipe.enable_model_cpu_offload(device=device.chosen())

    for _ in unless_refused(lambda: impl.apply(in_blocks.compiled, case.module)):
        for _again in range(2):
            assert_equal_or_refused(Pair(eager, case.module), call)
            assert hasattr(case.module, "_hf_hook")
            case.pipe.maybe_free_model_hooks()


@clause("REG-38", deadline_s=600)
def test_a_pipeline_that_is_offloaded_later_is_right_or_refused(
    impl: Adapter, in_blocks: _flux.Flux
) -> None:
    case, call = in_blocks.case, in_blocks.call
    eager = copy.deepcopy(case.module)
    impl.apply(in_blocks.compiled, case.module)
    with torch.no_grad():
        case.module(*call.args, **call.kwargs)

    case.pipe.enable_model_cpu_offload(device=device.chosen())

    for _ in range(2):
        assert_equal_or_refused(Pair(eager, case.module), call)
        assert hasattr(case.module, "_hf_hook")
        case.pipe.maybe_free_model_hooks()


@clause("REG-39", deadline_s=600)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("offload", _flux.OFFLOADS)
def test_blocks_whose_weights_come_and_go_are_right_or_refused(
    impl: Adapter,
    in_blocks: _flux.Flux,
    offload: Offload,
    order: Order,
    tmp_path: Path,
) -> None:
    assert_agrees_or_refuses(
        lambda: order(impl, in_blocks, offload, tmp_path), [in_blocks.call] * 2
    )


@clause("REG-40", deadline_s=600)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("offload", _flux.OFFLOADS)
def test_a_whole_flux_whose_weights_come_and_go_is_right_or_refused(
    impl: Adapter, whole: _flux.Flux, offload: Offload, order: Order, tmp_path: Path
) -> None:
    assert_agrees_or_refuses(
        lambda: order(impl, whole, offload, tmp_path), [whole.call] * 2
    )
