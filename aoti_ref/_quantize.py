"""Quantise the linear layers of a module to FP8, with torchao, before export."""

from __future__ import annotations

import importlib
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from aoti_ref._errors import AotiError
from aoti_ref._traits import inside
from aoti_ref._weights import PLAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

# What diffusers' transformers call the layers at their end: an error there is an
# error in the picture, and they are small.
OUTPUTS = ("proj_out", "norm_out.*", "final_layer.*", "lm_head")

_TILE = 16  # the sizes of FP8 products are multiples of it
_LEAST = (8, 9)  # the compute capability that torchao asks for: FP8 began with it
_SMALLEST = (
    1 << 20
)  # elements; below, quantising the activations costs more than it saves


class NotQuantizable(AotiError):
    """A module cannot be quantised, and was left as it was.

    >>> print(NotQuantizable("Flux", "it is on cpu; FP8 products need a GPU"))
    Flux cannot be quantised: it is on cpu; FP8 products need a GPU
    """

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(module, reason)
        self.module = module
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.module} cannot be quantised: {self.reason}"


class Quantized(NamedTuple):
    """What `quantize` did.

    Args:
        layers: The layers that are quantised now, by their dotted names.
        skipped: The linear layers that are not, and why.
        bytes_before: What the weights of `layers` took.
        bytes_after: What they take now, with their scales.
    """

    layers: tuple[str, ...]
    skipped: dict[str, str]
    bytes_before: int
    bytes_after: int


def quantize(
    module: nn.Module,
    config: Any = "per_row",
    *,
    skip: Sequence[str] = OUTPUTS,
    smallest: int = _SMALLEST,
) -> Quantized:
    """Quantise the weights of the linear layers of `module`, in place.

    Export, compile and apply take the module then as they take any other: its
    weights are torchao's tensors, and a graph is bound to what is inside of them.

    Args:
        module: Its layers' weights are `[out, in]`, of a floating dtype: bfloat16 for
            scales per row.
        config: "per_row" or "per_tensor", for FP8 products with that many scales, or
            "weight_only", which stores FP8 and multiplies in the old dtype; or what
            torchao has for them, a `Float8DynamicActivationFloat8WeightConfig` or a
            `Float8WeightOnlyConfig`. Products need a GPU of compute capability 8.9, as
            torchao says; its guides ask for 9.0, which is where they were measured.
        skip: Patterns (as `fnmatch` has them) of names of layers to leave out.
        smallest: Layers whose weights have fewer elements are left out.

    Returns:
        What was quantised, what was not and why.

    Raises:
        TypeError, ValueError: `config` is none of these.
        NotQuantizable: torchao is missing, the device cannot multiply FP8, weights
            are of a dtype that torchao does not take, or no layer is left.
    """
    name = type(module).__name__
    config, dynamic = _checked(config, name)
    chosen: dict[str, nn.Linear] = {}
    skipped: dict[str, str] = {}
    shared = _shared(module)
    layers = {n: m for n, m in module.named_modules() if isinstance(m, nn.Linear)}
    for path, layer in layers.items():
        reason = _unfit(path, layer, skip, smallest, shared)
        if reason:
            skipped[path] = reason
        else:
            chosen[path] = layer
    whole = {id(layers[path].weight): path for path in skipped}
    for path in [path for path, layer in chosen.items() if id(layer.weight) in whole]:
        weight = chosen.pop(path).weight
        skipped[path] = f"{whole[id(weight)]} has the same weight, and is skipped"
    if not chosen:
        told = "; ".join(f"{path}: {why}" for path, why in skipped.items())
        raise NotQuantizable(name, f"no linear layer is left ({told or 'it has none'})")
    for path, layer in chosen.items():
        _refuse(name, path, layer.weight, config, dynamic=dynamic)
    before = _bytes(chosen)
    _exchange(module, chosen, config, name)
    return Quantized(tuple(chosen), skipped, before, _bytes(chosen))


def _checked(config: Any, module: str) -> tuple[Any, bool]:
    """Give the configuration, without what it changes in Inductor's, and its kind."""
    try:
        api = importlib.import_module("torchao.quantization")
    except ImportError as error:
        how = "torchao is not installed; pip install 'aoti-conformance[fp8]'"
        raise NotQuantizable(module, how) from error
    kinds = api.Float8DynamicActivationFloat8WeightConfig, api.Float8WeightOnlyConfig
    schemes = {
        "per_row": lambda: kinds[0](granularity=api.PerRow()),
        "per_tensor": lambda: kinds[0](granularity=api.PerTensor()),
        "weight_only": kinds[1],
    }
    if isinstance(config, str) and config in schemes:
        config = schemes[config]()
    if not isinstance(config, kinds):
        names = ", ".join([*map(repr, schemes), *(kind.__name__ for kind in kinds)])
        found = repr(config) if isinstance(config, str) else type(config).__name__
        message = f"config must be one of {names}; found {found}"
        raise (ValueError if isinstance(config, str) else TypeError)(message)
    return replace(config, set_inductor_config=False), isinstance(config, kinds[0])


def _shared(module: nn.Module) -> dict[int, str]:
    """Name those that use a parameter and are no linear layers."""
    return {
        id(tensor): f"{path}.{key}".lstrip(".")
        for path, part in module.named_modules()
        for key, tensor in part._parameters.items()
        if tensor is not None and (key != "weight" or not isinstance(part, nn.Linear))
    }


def _unfit(
    path: str,
    layer: nn.Linear,
    skip: Sequence[str],
    smallest: int,
    shared: dict[int, str],
) -> str:
    """Say why a layer is left out: nothing, if it is not."""
    weight = layer.weight
    for pattern in skip:
        if fnmatchcase(path, pattern):
            return f"{pattern!r} is to be skipped"
    if type(weight) not in PLAIN:
        return f"its weight is a {type(weight).__name__} already"
    if any(size % _TILE for size in weight.shape):
        return f"{_TILE} does not divide both sizes of {list(weight.shape)}"
    if weight.numel() < smallest:
        return f"{weight.numel()} elements are fewer than {smallest}"
    if id(weight) in shared:
        return f"{shared[id(weight)]} is the same tensor"
    return ""


def _refuse(
    module: str, path: str, weight: torch.Tensor, config: Any, *, dynamic: bool
) -> None:
    """Refuse what torchao would, before anything is changed."""
    if not weight.is_floating_point() or weight.is_meta:
        found = f"{weight.dtype} on {weight.device}"
        raise NotQuantizable(module, f"{path}.weight is {found}")
    if not dynamic:
        return
    needs = "FP8 products need a GPU of compute capability {}.{}".format(*_LEAST)
    if weight.device.type != "cuda":
        raise NotQuantizable(module, f"{path}.weight is on {weight.device}; {needs}")
    capability = torch.cuda.get_device_capability(weight.device)
    if capability < _LEAST:
        have = "{}.{}".format(*capability)
        raise NotQuantizable(module, f"{weight.device} has {have}; {needs}")
    by_row = any(type(each).__name__ == "PerRow" for each in config.granularity)
    if by_row and weight.dtype is not torch.bfloat16:
        wants = "scales per row need bfloat16"
        raise NotQuantizable(module, f"{path}.weight is {weight.dtype}; {wants}")


def _exchange(
    module: nn.Module, chosen: dict[str, nn.Linear], config: Any, name: str
) -> None:
    """Have torchao exchange the weights; all of them, or none."""
    api = importlib.import_module("torchao.quantization")
    before: dict[str, tuple[Any, dict[str, Any]]] = {
        path: (layer.weight, {**vars(layer)}) for path, layer in chosen.items()
    }
    try:
        api.quantize_(module, config, filter_fn=lambda _, path: path in chosen)
        left = [p for p, layer in chosen.items() if layer.weight is before[p][0]]
        if left:
            raise NotQuantizable(name, f"torchao left {', '.join(left)} as it was")  # noqa: TRY301  # undone below
        firsts: dict[int, Any] = {}
        for path, layer in chosen.items():
            one = firsts.setdefault(id(before[path][0]), layer.weight)
            layer._parameters["weight"] = one  # ties stay
            if "extra_repr" not in before[path][1]:  # torchao's cannot be pickled
                vars(layer).pop("extra_repr", None)
    except BaseException:
        for path, (weight, own) in before.items():
            layer = chosen[path]
            vars(layer).clear()
            vars(layer).update(own)
            layer._parameters["weight"] = weight
        raise


def _bytes(layers: dict[str, nn.Linear]) -> int:
    """Count the bytes that the weights of layers hold, those of ties once."""
    found = [part for layer in layers.values() for _, part in inside(layer.weight)]
    return sum({part.data_ptr(): part.nbytes for part in found}.values())
