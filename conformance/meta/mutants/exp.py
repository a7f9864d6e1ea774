"""Mutants of the chapter EXP: exports that mislay sizes and ranges."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from conformance.adapter import Range
from conformance.adapters import reference
from conformance.meta.mutants._applied import altered
from conformance.meta.mutants._around import (
    Answer,
    Args,
    Kwargs,
    Ranges,
    accepts,
    around,
    results,
)
from conformance.meta.mutants._make import mutant
from conformance.models import export as models


def _forgives_keys(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    known = {n: d for n, d in (dynamic or {}).items() if n == "hidden_states"}
    return reference.export(module, call, dynamic=known)


EXP_02 = mutant("EXP-02", export=_forgives_keys)


def _wrong_for_one(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    x = kwargs["hidden_states"]
    if x.shape[0] != 5:
        return answer(*args, **kwargs)
    one = answer(hidden_states=x[:1])[0]
    return (one.expand(5, -1, -1).contiguous(),)


EXP_03 = mutant("EXP-03", apply=around(_wrong_for_one))


def _unifies(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    (x,) = args
    side = min(x.shape)
    return answer(x[:side, :side].contiguous(), **kwargs)


EXP_04 = mutant("EXP-04", apply=around(_unifies))
EXP_05 = mutant(
    "EXP-05", apply=altered(lambda x: x * 1.01 if x.shape[1:2] == (23,) else x)
)


def _to_example(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Forget the range: every call is cut to the size of the example."""
    return answer(*args, hidden_states=kwargs["hidden_states"][:, :8].contiguous())


EXP_05_static = mutant("EXP-05", apply=around(_to_example))


def _to_multiples(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    (x,) = args
    return answer(x[: x.shape[0] // 4 * 4], **kwargs)


def _unchecked(answer: Any, args: Args, kwargs: Kwargs) -> Any:
    return answer.__self__.proj(*args, **kwargs)


EXP_06_cuts = mutant("EXP-06", **accepts((models.Grouped,), _to_multiples))
EXP_06_unchecked = mutant(
    "EXP-06", own_cache="unchecked", **accepts((models.AtLeastEight,), _unchecked)
)
EXP_06_branch = mutant(
    "EXP-06", own_cache="branch", **accepts((models.NotFive,), _unchecked)
)


def _rounds_derived(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    x, y = args
    rows = min(x.shape[0], y.shape[0] // 2)
    return answer(x[:rows], y[: 2 * rows], **kwargs)


def _shortest(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    (x,), (first, rest) = args, kwargs["parts"]
    rows = min(len(x), len(first))
    return answer(x[:rows], **{**kwargs, "parts": (first[:rows], rest)})


EXP_07 = mutant("EXP-07", apply=around(_rounds_derived))
EXP_08 = mutant("EXP-08", apply=around(_shortest))


def _pads(answer: Answer, _args: Args, kwargs: Kwargs) -> Any:
    x = kwargs["hidden_states"]
    return answer(hidden_states=torch.zeros(2, 8, 16) + x[:, :1])


def _clamps(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    x, count = args
    return answer(x, count.clamp(1, 8), **kwargs)


EXP_19_size = mutant("EXP-19", apply=around(_pads))
EXP_19_value = mutant("EXP-19", apply=around(_clamps))


def _widens_ranges(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    ranges = {"hidden_states": {1: Range("tokens", 2, 64)}} if dynamic else None
    return reference.export(module, call, dynamic=ranges)


def _skips_misfits(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    rows = {0: models.ROWS}
    fits = {"x": rows, "parts": (rows, [None])}
    fitting = fits if isinstance(module, models.Rich) else dynamic
    return reference.export(module, call, dynamic=fitting)


def _drops_points(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
    """Take a range with one size in it for a size that does not vary."""
    dims = {key: value for key, value in (dynamic or {}).items() if not _points(value)}
    return reference.export(module, call, dynamic=dims or None)


def _points(dims: Any) -> bool:
    ranges = dims.values() if isinstance(dims, dict) else ()
    ends = [(found.min, found.max) for found in ranges if isinstance(found, Range)]
    return bool(ends) and all(least == most for least, most in ends)


EXP_20_point = mutant("EXP-20", own_cache="point", export=_drops_points)
EXP_20_example = mutant("EXP-20", export=_widens_ranges)
EXP_20_argument = mutant("EXP-20", export=_skips_misfits)


EXP_24 = mutant(
    "EXP-24",
    apply=results(lambda found: {**found, "rows": 5} if type(found) is dict else found),
)
