"""Mutants of the chapter DYN: masks, numbers, ties, and FLUX."""

from __future__ import annotations

from typing import Any

import torch

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import altered
from conformance.meta.mutants._around import (
    Answer,
    Args,
    Change,
    Kwargs,
    Ranges,
    accepts,
    around,
    results,
)
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants.dyn import fitted
from conformance.models import dynamic as models


def _unmasks_odd_words(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    found = kwargs["conditioning"]
    mask = found["mask"] | bool(found["mask"].shape[1] % 2)
    return answer(*args, **{**kwargs, "conditioning": {**found, "mask": mask}})


def _unmasks_odd_tokens(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if kwargs:  # Masked; Attended takes its mask by position
        return answer(*args, **kwargs)
    x, mask = args
    return answer(x, mask | bool(mask.shape[1] % 2))


DYN_13_words = mutant("DYN-13", apply=around(_unmasks_odd_words))
DYN_13_tokens = mutant("DYN-13", apply=around(_unmasks_odd_tokens))


def _export_mumbles(module: Any, call: Any, *, dynamic: Ranges = None) -> Any:
    try:
        return reference.export(module, call, dynamic=dynamic)
    except Refused:
        raise Refused("the export failed") from None


def _cuts_to_eights(answer: Answer, args: Args, _kwargs: Kwargs) -> Any:
    tokens = args[0].shape[1] // 8 * 8
    return answer(*(x[:, :tokens] for x in args))


DYN_14_mumbles = mutant("DYN-14", export=_export_mumbles)
DYN_14_cuts = mutant(
    "DYN-14", own_cache="cuts", **accepts((models.Aligned,), _cuts_to_eights)
)


def _with(name: str, change: Any) -> Any:
    """Change the part `name` of results that have it."""

    def changed(found: Any) -> Any:
        has = isinstance(found, dict) and name in found
        return {**found, name: change(found[name])} if has else found

    return results(changed)


def _from_the_example(x: torch.Tensor) -> torch.Tensor:
    return x - len(x) + 6


def _drops_the_tail(x: torch.Tensor) -> torch.Tensor:
    whole = len(x) // 16 * 16
    return torch.cat([x[:whole], x[whole:] * 0.99])


DYN_15_positions = mutant("DYN-15", apply=_with("positions", _from_the_example))
DYN_15_halves = mutant("DYN-15", apply=_with("second half", lambda x: x[:-1]))
DYN_16_tail = mutant("DYN-16", apply=_with("shares", _drops_the_tail))
DYN_16_sum = mutant(
    "DYN-16", apply=results(lambda y: {**y, "spread": y["shares"].var(0)})
)


def _no_more_than_the_example(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if "timestep" in kwargs and args[0].shape[2] > 2:
        raise Refused("more frames than the example has")
    return answer(*args, **kwargs)


def _no_less_than_the_example(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if "bias" in kwargs and kwargs["conditioning"]["text"].shape[1] < 19:
        raise Refused("fewer words than the example has")
    return answer(*args, **kwargs)


DYN_17_smallest = mutant("DYN-17", apply=around(_no_more_than_the_example))
DYN_17_largest = mutant("DYN-17", apply=around(_no_less_than_the_example))


def _always_landscape(answer: Any, args: Args, _kwargs: Kwargs) -> Any:
    return answer.__self__.proj(args[0]).sum(0)


def _fills_ids_up(answer: Answer, args: Args, _kwargs: Kwargs) -> Any:
    text, image, ids = args
    rows = len(text) + len(image)
    return answer(text, image, fitted(ids, 0, rows, rows))


def _cuts_to_frames(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    frames = kwargs["frames"]
    return answer(args[0][: len(args[0]) // frames * frames], **kwargs)


def _frames_of_the_example(answer: Answer, args: Args, _kwargs: Kwargs) -> Any:
    return answer(*args, frames=3)


def _three_are_kept(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    kept, total = answer(*args, **kwargs)
    return fitted(kept, 0, 3, 3), total


DYN_18 = mutant("DYN-18", **accepts((models.Landscape,), _always_landscape))
DYN_19_sum = mutant("DYN-19", **accepts((models.Joined,), _fills_ids_up))
DYN_19_cuts = mutant(
    "DYN-19", own_cache="cuts", **accepts((models.Framed,), _cuts_to_frames)
)
DYN_19_number = mutant("DYN-19", apply=around(_frames_of_the_example))
DYN_20 = mutant("DYN-20", apply=around(_three_are_kept))


def _ends_at_65536(x: torch.Tensor) -> torch.Tensor:
    x[1 << 16 :] *= 0
    return x


def _wraps_around(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    (x,) = args
    return answer(x[: 1 << 25] if x.dtype is torch.uint8 else x, **kwargs)


DYN_21_rows = mutant(
    "DYN-21", apply=altered(lambda x: _ends_at_65536(x) if x.ndim else x)
)
DYN_21_elements = mutant("DYN-21", apply=around(_wraps_around))


def _repeats_positions(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Use the positions of the example's 48 tokens over and over."""
    ids = kwargs["img_ids"]
    numbers = torch.arange(len(ids), device=ids.device) % 48
    return answer(*args, **{**kwargs, "img_ids": ids[numbers % len(ids)]})


def _sized(change_tokens: Any, change_ids: Any) -> Change:
    """Cut or fill both arguments to numbers that follow from their own."""

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        states, ids = kwargs["hidden_states"], kwargs["img_ids"]
        tokens, places = states.shape[1], len(ids)
        most, least = change_tokens(tokens, places), change_ids(tokens, places)
        fit = {
            "hidden_states": fitted(states, 1, most, most),
            "img_ids": fitted(ids, 0, least, least),
        }
        return answer(*args, **{**kwargs, **fit})

    return change


def _within(tokens: int, _places: int) -> int:
    return min(max(tokens, 48), 96)


def _own(_tokens: int, places: int) -> int:
    return min(max(places, 48), 96)


DYN_22_end = mutant(
    "DYN-22", apply=altered(lambda x: x * 1.01 if x.shape[1] == 96 else x)
)
DYN_22_positions = mutant("DYN-22", apply=around(_repeats_positions))
DYN_23_range = mutant("DYN-23", apply=around(_sized(_within, _own)))
DYN_23_shared = mutant(
    "DYN-23", apply=around(_sized(lambda tokens, _: tokens, lambda tokens, _: tokens))
)


def _mumbles(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except Exception as error:
        raise Refused("a size is outside of its range") from error


DYN_23_name = mutant("DYN-23", apply=around(_mumbles))
