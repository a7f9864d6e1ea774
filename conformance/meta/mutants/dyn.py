"""Mutants of the chapter DYN: sizes that are mixed up, cut off, or let through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import altered
from conformance.meta.mutants._around import Answer, Args, Change, Kwargs, around
from conformance.meta.mutants._make import mutant
from conformance.models import dynamic as models

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter import Range

CORNER = (4, 4, 5, 12, 12)

DYN_01_corner = mutant(
    "DYN-01", apply=altered(lambda x: x * 1.01 if x.shape == CORNER else x)
)
DYN_01_strides = mutant("DYN-01", apply=altered(torch.Tensor.contiguous))
DYN_02_squeezes = mutant(
    "DYN-02", apply=altered(lambda x: x.squeeze(0) if x.ndim == 5 else x)
)


def _pads_the_batch(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Repeat a single sample to the two of the example, and return both."""
    if len(args[0]) > 1:
        return answer(*args, **kwargs)
    return answer(args[0].repeat(2, 1, 1, 1, 1), timestep=kwargs["timestep"].repeat(2))


DYN_02_pads = mutant("DYN-02", apply=around(_pads_the_batch))


def _remembers_by_product() -> Change:
    shapes: dict[int, Any] = {}

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        (x,) = args
        shape = shapes.setdefault(x.numel(), x.shape)
        found = answer(x.reshape(shape), **kwargs)
        return {**found, "sample": found["sample"].reshape(x.shape)}

    return change


DYN_03 = mutant("DYN-03", apply=around(_remembers_by_product()))


def fitted(x: torch.Tensor, dim: int, most: int, least: int = 0) -> torch.Tensor:
    """Cut `x` off after `most`, and fill it up with zeros to `least`."""
    x = x.narrow(dim, 0, min(x.shape[dim], most))
    missing = max(least - x.shape[dim], 0)
    shape = [missing if d == dim else size for d, size in enumerate(x.shape)]
    return torch.cat([x, x.new_zeros(shape)], dim)


def _fit(call: tuple[Args, Kwargs], ranges: Any, *, low: bool, high: bool) -> Any:
    """Fit what has ranges into them, below or above."""

    def walk(value: Any, table: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return {key: walk(item, table[key]) for key, item in value.items()}
        for dim, found in (table or {}).items():
            least, most = _ends(found)
            value = fitted(value, dim, most if high else 1 << 40, least if low else 0)
        return value

    args, kwargs = call
    named = dict(zip(ranges, args, strict=False)) | kwargs
    fit = {name: walk(value, ranges[name]) for name, value in named.items()}
    return [fit.pop(name) for name in list(ranges)[: len(args)]], fit


def _ends(found: Range) -> tuple[int, int]:
    return found.min * found.times, found.max * found.times


def _fits(*, low: bool = False, high: bool = False) -> Change:
    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        video = "timestep" in kwargs
        ranges = models.VIDEO_RANGES if video else models.MASKED_RANGES
        args, kwargs = _fit((args, kwargs), ranges, low=low, high=high)
        return answer(*args, **kwargs)

    return change


DYN_04_above = mutant("DYN-04", apply=around(_fits(high=True)))
DYN_04_below = mutant("DYN-04", apply=around(_fits(low=True)))


def _only_masked(change: Change) -> Change:
    """Let `change` make the calls of Masked, and no others."""

    def chosen(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        masked = "bias" in kwargs
        return change(answer, args, kwargs) if masked else answer(*args, **kwargs)

    return chosen


def _nothing_for_nothing(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    (x,) = args
    return answer(*args, **kwargs) if x.numel() else x.clone()


DYN_04_nested = mutant("DYN-04", apply=around(_only_masked(_fits(low=True, high=True))))
DYN_04_nothing = mutant("DYN-04", apply=around(_nothing_for_nothing))


def _mumbles(say: str) -> Change:
    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        try:
            return answer(*args, **kwargs)
        except Exception as error:
            raise Refused(say) from error

    return change


DYN_05_name = mutant("DYN-05", apply=around(_mumbles("found 5, 7, 14, 20, 21, 66, 67")))
DYN_05_size = mutant(
    "DYN-05",
    apply=around(_mumbles("latents, timestep, hidden_states, text, mask or bias")),
)


def _forgets_keys(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except Exception as error:
        known = str(error).replace("text", "").replace("mask", "")
        raise Refused(known) from error


DYN_05_key = mutant("DYN-05", apply=around(_forgets_keys))


def _cuts_odd_pixels(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    (x,) = args
    height, width = x.shape[3] // 2 * 2, x.shape[4] // 2 * 2
    return answer(x[..., :height, :width].contiguous(), **kwargs)


def _squares(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    tokens, bias = args[0].shape[1], kwargs["bias"]
    for dim in (0, 1):
        bias = fitted(bias, dim, tokens, tokens)
    return answer(*args, **{**kwargs, "bias": bias})


def _smallest_batch(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    (x,), times = args, kwargs["timestep"]
    batch = min(len(x), len(times))
    return answer(x[:batch], timestep=times[:batch])


def _fits_channels(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(fitted(args[0], 1, 4, 4), **kwargs)


def _fits_batch(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(fitted(args[0], 0, 2, 2), **kwargs)


def _ties_tokens_to_width(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    (x,), width = args, args[0].shape[2]
    bias = fitted(fitted(kwargs["bias"], 0, width), 1, width)
    return answer(x[:, :width], **{**kwargs, "bias": bias})


DYN_06 = mutant("DYN-06", apply=around(_cuts_odd_pixels))
DYN_07 = mutant("DYN-07", apply=around(_squares))
DYN_08 = mutant("DYN-08", apply=around(_smallest_batch))
DYN_09_channels = mutant("DYN-09", apply=around(_fits_channels))
DYN_09_batch = mutant("DYN-09", apply=around(_only_masked(_fits_batch)))
DYN_10 = mutant("DYN-10", apply=around(_ties_tokens_to_width))


def _flat(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Read every tensor as if it lay without gaps from its address on."""

    def flat(x: torch.Tensor) -> torch.Tensor:
        there = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
        if there < x.numel():  # not enough for that: an expanded one
            return x
        return x.as_strided(x.shape, torch.empty(x.shape, device="meta").stride())

    args, kwargs = pytree.tree_map_only(torch.Tensor, flat, (args, kwargs))
    return answer(*args, **kwargs)


def _from_the_start(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Forget where in its storage a tensor begins."""

    def moved(x: torch.Tensor) -> torch.Tensor:
        return x.as_strided(x.shape, x.stride(), 0)

    args, kwargs = pytree.tree_map_only(torch.Tensor, moved, (args, kwargs))
    return answer(*args, **kwargs)


DYN_11_gaps = mutant("DYN-11", apply=around(_flat))
DYN_11_offset = mutant("DYN-11", apply=around(_from_the_start))


def _keeps_the_largest() -> Change:
    kept: list[torch.Tensor] = []

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        tokens = len(kwargs["bias"])
        if not kept or len(kept[0]) < tokens:
            kept[:] = [kwargs["bias"]]
        bias = kept[0][:tokens, :tokens].contiguous()
        return answer(*args, **{**kwargs, "bias": bias})

    return change


def _answers_into_one_buffer() -> Change:
    buffer = torch.empty(1 << 16)

    def into(x: torch.Tensor) -> torch.Tensor:
        return buffer[: x.numel()].view(x.shape).copy_(x)

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        first, second = answer(*args, **kwargs)
        return into(first), second

    return change


DYN_12_arguments = mutant("DYN-12", apply=around(_keeps_the_largest()))
DYN_12_results = mutant("DYN-12", apply=around(_answers_into_one_buffer()))


class _Loaded:
    """A compiled model that came from a package without its ranges."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled


def _saves(compiled: Any, folder: Path) -> None:
    reference.save(getattr(compiled, "compiled", compiled), folder)


def _loads(folder: Path) -> _Loaded:
    return _Loaded(reference.load(folder))


def _applies(change: Change) -> Any:
    """Let `change` make the calls of what was loaded."""
    forgetful = around(change)

    def apply(compiled: Any, module: torch.nn.Module) -> None:
        if isinstance(compiled, _Loaded):
            forgetful(compiled.compiled, module)
        else:
            reference.apply(compiled, module)

    return apply


DYN_24 = mutant(
    "DYN-24", load=_loads, apply=_applies(_fits(low=True, high=True)), save=_saves
)
