"""Chapter QNT: what quantising does to a module."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch._inductor.config
from torch import nn

from conformance import tensors
from conformance.clauses._applied import attributes, identities, unless_refused
from conformance.models import quantised
from conformance.spec import clause
from conformance.workbench import assert_agrees, built, refuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter_graphs import Quantises


class _Own(nn.Linear):
    """A linear layer of a class of its own, as libraries have them."""


def _derived() -> nn.Module:
    module = quantised.Mlp()
    module.up.__class__ = _Own
    return module


@clause("QNT-02")
@pytest.mark.parametrize(
    "make", [quantised.Mlp, quantised.Tower, _derived], ids=lambda m: m.__name__
)
def test_every_layer_is_quantised_or_named(
    impl: Quantises, make: Callable[[], nn.Module], seed: int
) -> None:
    module = quantised.plain(make, seed)
    before = {n: layer.weight for n, layer in quantised.layers(module).items()}

    left = impl.quantize(module, "weight_only")

    after = {n: layer.weight for n, layer in quantised.layers(module).items()}
    same = {name for name, weight in after.items() if weight is before[name]}
    assert same == set(left)
    assert all(left.values())
    assert {name.rpartition(".")[2] for name in same} <= {*quantised.ODD, "head"}
    for name in after.keys() - same:
        inner = [t for _, t in tensors.inside(after[name])]
        assert torch.float8_e4m3fn in {tensor.dtype for tensor in inner}
        assert sum(t.nbytes for t in inner) <= 0.6 * before[name].nbytes


@clause("QNT-02")
def test_layers_beside_a_quantised_one_are_quantised_or_named(
    impl: Quantises, seed: int
) -> None:
    module = quantised.quantise(quantised.plain(quantised.Mlp, seed), only="up")

    for left in unless_refused(lambda: impl.quantize(module, "weight_only")):
        inner = tensors.inside(module.get_parameter("down.weight"))
        assert torch.float8_e4m3fn in {tensor.dtype for _, tensor in inner}
        assert set(left) >= set(quantised.ODD)


@clause("QNT-02")
def test_quantised_values_are_the_weights(impl: Quantises, seed: int) -> None:
    module = quantised.plain(quantised.Mlp, seed)
    wanted = copy.deepcopy(module)

    impl.quantize(module, "weight_only")

    for name in quantised.EVEN:
        found, weight = (m.get_parameter(f"{name}.weight") for m in (module, wanted))
        values = found.dequantize()
        noise = (values - weight).float().square().mean(-1)
        signal = weight.float().square().mean(-1)
        assert (signal / noise).min() > 10**2.5  # 25 dB in every row


@clause("QNT-03")
@pytest.mark.usefixtures("on_the_cpu")
@pytest.mark.parametrize("scheme", ["per_row", "per_tensor"])
def test_a_cpu_is_refused_for_products_of_fp8(
    impl: Quantises, scheme: str, seed: int
) -> None:
    module = quantised.plain(quantised.Mlp, seed)
    before, call = identities(module), quantised.call()
    answer = module(*call.args)

    with refuses() as refusal:
        impl.quantize(module, scheme)

    words = str(refusal).lower()
    assert any(word in words for word in ("cpu", "cuda", "gpu", "capability"))
    assert identities(module) == before
    assert torch.equal(module(*call.args), answer)


@clause("QNT-04")
def test_quantising_changes_no_configuration(impl: Quantises, seed: int) -> None:
    module = quantised.plain(quantised.Mlp, seed)
    before = torch._inductor.config.get_config_copy(), attributes(module)

    impl.quantize(module, "weight_only")

    after = torch._inductor.config.get_config_copy(), attributes(module)
    changed = {key for key in before[0] if before[0][key] != after[0][key]}
    assert (changed, after[1]) == (set(), before[1])


@clause("QNT-04")
def test_quantising_leaves_what_is_no_weight(impl: Quantises, seed: int) -> None:
    module = quantised.plain(quantised.Mlp, seed)
    module.get_submodule("down").train()
    before = _beside_weights(module)

    unless_refused(lambda: impl.quantize(module, "weight_only"))

    assert _beside_weights(module) == before


def _beside_weights(module: nn.Module) -> Any:
    """List the biases and the modes of a module's layers."""
    named = module.named_parameters()
    biases = {n: (id(p), p.data_ptr()) for n, p in named if n.endswith("bias")}
    return biases, {name: part.training for name, part in module.named_modules()}


@clause("QNT-17")
def test_quantising_again_changes_nothing(impl: Quantises, seed: int) -> None:
    module = quantised.quantised(quantised.Mlp, seed)
    weights = [module.get_parameter(f"{name}.weight") for name in quantised.EVEN]
    values = [weight.dequantize() for weight in weights]

    unless_refused(lambda: impl.quantize(module, "weight_only"))

    again = [module.get_parameter(f"{name}.weight") for name in quantised.EVEN]
    assert all(
        torch.equal(a.dequantize(), v) for a, v in zip(again, values, strict=True)
    )
    assert [quantised.stored_bytes(a) for a in again] == [
        quantised.stored_bytes(w) for w in weights
    ]


@clause("QNT-18")
def test_ties_outlast_quantising(impl: Quantises, seed: int) -> None:
    module = quantised.plain(quantised.Twin, seed)
    limit = module.get_parameter("first.weight").nbytes

    impl.quantize(module, "weight_only")

    held = {
        tensor.data_ptr(): tensor.nbytes
        for layer in quantised.layers(module).values()
        for _, tensor in tensors.inside(layer.weight)
    }
    assert sum(held.values()) <= limit
    assert_agrees(built(impl, module, quantised.call()), quantised.call(seed=1))
