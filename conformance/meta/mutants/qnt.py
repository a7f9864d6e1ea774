"""Mutants of the chapter QNT: what is quantised, and what graphs make of it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch._functorch._aot_autograd.subclass_parametrization import (
    unwrap_tensor_subclass_parameters,
)

from conformance import tensors
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import (
    Held,
    afterwards,
    as_it_was,
    on_a_copy,
    on_a_shared_twin,
    shared_twin,
)
from conformance.meta.mutants._around import around
from conformance.meta.mutants._make import mutant
from conformance.models import quantised

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.meta.mutants._around import Answer, Args, Kwargs


def _weights(module: nn.Module) -> list[Any]:
    layers = quantised.layers(module).values()
    return [w for layer in layers if tensors.made_of_others(w := layer.weight)]


def unscaled(module: nn.Module) -> None:
    """Forget the scales."""
    for weight in _weights(module):
        weight.scale.fill_(1)


def _one_scale(module: nn.Module) -> None:
    for weight in _weights(module):
        weight.scale.fill_(weight.scale.mean())


QNT_01_unscaled = mutant("QNT-01", apply=on_a_copy(unscaled))
QNT_01_one_scale = mutant("QNT-01", apply=on_a_copy(_one_scale))


# QNT-02: half of the layers; nobody is told; bfloat16 under the name of FP8.
def _half(module: nn.Module, scheme: str) -> dict[str, str]:
    plain = copy.deepcopy(module)
    left = reference.quantize(module, scheme)
    for name, layer in quantised.layers(module).items():
        if name.endswith("down"):
            layer.weight = plain.get_parameter(f"{name}.weight")
    return left


def _untold(module: nn.Module, scheme: str) -> dict[str, str]:
    reference.quantize(module, scheme)
    return {}


def _wide(module: nn.Module, scheme: str) -> dict[str, str]:
    left = reference.quantize(module, scheme)
    for weight in _weights(module):
        weight.qdata = weight.qdata.bfloat16()
    return left


def _coarse(module: nn.Module, scheme: str) -> dict[str, str]:
    left = reference.quantize(module, scheme)
    for weight in _weights(module):
        weight.qdata[0].zero_()
    return left


QNT_02_half = mutant("QNT-02", quantize=_half)
QNT_02_untold = mutant("QNT-02", quantize=_untold)
QNT_02_wide = mutant("QNT-02", quantize=_wide)
QNT_02_coarse = mutant("QNT-02", quantize=_coarse)


# QNT-03: another scheme unasked; half of the layers exchanged when it refuses.
def _falls_back(module: nn.Module, _scheme: str) -> dict[str, str]:
    return reference.quantize(module, "weight_only")


def _too_late(module: nn.Module, scheme: str) -> dict[str, str]:
    quantised.quantise(module, only=quantised.EVEN[0])
    return reference.quantize(module, scheme)


def _wordless(module: nn.Module, scheme: str) -> dict[str, str]:
    try:
        return reference.quantize(module, scheme)
    except Refused:
        message = "cannot be quantised"
        raise Refused(message) from None


QNT_03_falls_back = mutant("QNT-03", quantize=_falls_back)
QNT_03_too_late = mutant("QNT-03", quantize=_too_late)
QNT_03_wordless = mutant("QNT-03", quantize=_wordless)


# QNT-04: what torchao recommends is set for all that is compiled from now on.
def _recommended(module: nn.Module, scheme: str) -> dict[str, str]:
    api = quantised.torchao()
    left = reference.quantize(module, scheme)
    api.quantize_(copy.deepcopy(nn.Linear(16, 16)), api.Float8WeightOnlyConfig())
    return left


def _remarked(module: nn.Module, scheme: str) -> dict[str, str]:
    left = reference.quantize(module, scheme)
    for name in quantised.EVEN:
        vars(module.get_submodule(name))["is_quantised"] = True
    return left


QNT_04_recommended = mutant("QNT-04", quantize=_recommended)
QNT_04_remarked = mutant("QNT-04", quantize=_remarked)


def _apart(module: nn.Module) -> None:
    unwrap_tensor_subclass_parameters(module)


QNT_05_apply = mutant("QNT-05", apply=afterwards(_apart))


def _taken_apart(module: nn.Module, call: Any, *, dynamic: Any = None) -> Any:
    exported = reference.export(module, call, dynamic=dynamic)
    _apart(module)
    return exported


QNT_05_export = mutant("QNT-05", export=_taken_apart)


# QNT-06: the scales, or all, are those of the moment of apply.
def _old_scales(compiled: Any, module: nn.Module) -> None:
    twin = shared_twin(module)
    for layer in quantised.layers(twin).values():
        if tensors.made_of_others(layer.weight):
            layer.weight = nn.Parameter(copy.copy(layer.weight), requires_grad=False)
            weight: Any = layer.weight
            weight.scale = weight.scale.clone()
    reference.apply(compiled, twin)
    module.forward = Held(twin)


QNT_06_stale = mutant("QNT-06", apply=on_a_copy(as_it_was))
QNT_06_scales = mutant("QNT-06", apply=_old_scales)
QNT_07 = mutant("QNT-07", apply=on_a_shared_twin)


# QNT-08 and QNT-09: weights that do not fit are taken as if they did.
def _takes_all(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        module.forward = lambda x: 0.5 * x


QNT_08 = mutant("QNT-08", apply=_takes_all)
QNT_09_after = mutant("QNT-09", apply=on_a_copy(as_it_was))
QNT_09_before = mutant("QNT-09", apply=_takes_all)


def _with_weights(compiled: Any, folder: Path) -> None:
    reference.save(compiled, folder)
    (folder / "constants.bin").write_bytes(bytes(16 << 20))


QNT_10 = mutant("QNT-10", save=_with_weights)


class _Loaded(NamedTuple):
    compiled: Any


def _load(folder: Path) -> Any:
    return _Loaded(reference.load(folder))


def _apply_loaded(compiled: Any, module: nn.Module) -> None:
    if isinstance(compiled, _Loaded):
        on_a_copy(unscaled)(compiled.compiled, module)
    else:
        reference.apply(compiled, module)


QNT_11 = mutant("QNT-11", load=_load, apply=_apply_loaded)


# QNT-12: what the weights stand for is kept beside them.
def _kept(module: nn.Module) -> None:
    vars(module)["values"] = [weight.dequantize() for weight in _weights(module)]


QNT_12 = mutant("QNT-12", apply=afterwards(_kept))


def _wrong_at_the_end(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    result = answer(*args, **kwargs)
    return result * 1.5 if result.shape[0] == quantised.ROWS.max else result


def _lets_through(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except Exception:  # noqa: BLE001  # whatever it was refused for
        return args[0]


QNT_13_end = mutant("QNT-13", apply=around(_wrong_at_the_end))
QNT_13_beyond = mutant("QNT-13", apply=around(_lets_through))


# QNT-14 and QNT-15: the scales, or all weights, of the first block in every block.
def _scales_of_the_first(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear) and tensors.made_of_others(part.weight):
            first: Any = module.get_parameter(f"{_first(name)}.weight")
            weight: Any = part.weight
            weight.scale.copy_(first.scale)


def _first(name: str) -> str:
    parts = name.split(".")
    return ".".join(["blocks", "0", *parts[2:]]) if parts[0] == "blocks" else name


def _first_block_in_all(module: nn.Module) -> None:
    first, *others = module.get_submodule("blocks").children()
    for block in others:
        block.forward = Held(copy.deepcopy(first))


QNT_14 = mutant("QNT-14", apply=on_a_copy(_scales_of_the_first))
QNT_15 = mutant("QNT-15", apply=afterwards(_first_block_in_all))


class _Forgetful:
    """A forward that is saved without its weights."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    def __reduce__(self) -> Any:
        return _Forgetful, ()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = (
            torch.zeros_like(x) if self.answer is None else self.answer(x)
        )
        return result


def _forgetful(module: nn.Module) -> None:
    module.forward = _Forgetful(module.forward)


QNT_16 = mutant("QNT-16", apply=afterwards(_forgetful))


# QNT-17 and QNT-18: once more, and one by one.
def _again(module: nn.Module, scheme: str) -> dict[str, str]:
    for weight in _weights(module):
        weight.scale.mul_(2)
    return reference.quantize(module, scheme)


def _one_by_one(module: nn.Module, scheme: str) -> dict[str, str]:
    left = reference.quantize(module, scheme)
    for layer in quantised.layers(module).values():
        layer.weight = copy.deepcopy(layer.weight)
    return left


def _stale_tie(compiled: Any, module: nn.Module) -> None:
    def forget(twin: nn.Module) -> None:
        weights = _weights(twin)
        if len(weights) == len(quantised.layers(twin)):
            weights[0].scale.mul_(2)

    on_a_copy(forget)(compiled, module)


QNT_17 = mutant("QNT-17", quantize=_again)
QNT_18_apart = mutant("QNT-18", quantize=_one_by_one)
QNT_18_stale = mutant("QNT-18", apply=_stale_tie)
