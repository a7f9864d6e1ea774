"""Mutants of the chapter RUN: how arguments are given, and what is no tensor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from conformance.meta.mutants._around import around
from conformance.meta.mutants._lenient import nested, overlooks
from conformance.meta.mutants._make import mutant
from conformance.models import calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.meta.mutants._around import Answer, Args, Change, Kwargs

_DEFAULTS = ("flag", "n", "factor", "mode")


def _no_defaults(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if kwargs.keys() & set(_DEFAULTS):
        raise ValueError("there are arguments that the graph does not have")
    return answer(*args, **kwargs)


def _all_defaults(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if "n" not in kwargs:
        raise ValueError("expected 11 arguments, found 7")
    return answer(*args, **kwargs)


RUN_01_spelt = mutant("RUN-01", apply=around(_no_defaults))
RUN_01_left_out = mutant("RUN-01", apply=around(_all_defaults))


def _entries_by_position(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    extra = dict(zip(("gain", "bias"), kwargs["extra"].values(), strict=True))
    return answer(*args, **{**kwargs, "extra": extra})


def _keywords_by_position(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    names = ("size", "parts", "extra", *_DEFAULTS)
    return answer(*args, **dict(zip(names, kwargs.values(), strict=False)))


RUN_02_entries = mutant("RUN-02", apply=around(_entries_by_position))
RUN_02_keywords = mutant("RUN-02", apply=around(_keywords_by_position))

RUN_03 = mutant("RUN-03", apply=overlooks("arguments", found="missing"))


def _drops_unknown(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    names = ("x", "ids", "mask", "size", "parts", "extra", *_DEFAULTS)
    return answer(*args, **{k: v for k, v in kwargs.items() if k in names})


RUN_04_keywords = mutant("RUN-04", apply=around(_drops_unknown))
RUN_04_positions = mutant("RUN-04", apply=overlooks("arguments", found="positional"))

RUN_05 = mutant("RUN-05", apply=overlooks("value"))
RUN_05_strings = mutant("RUN-05", apply=overlooks("value", where="mode".__eq__))
RUN_05_numbers = mutant(
    "RUN-05", apply=overlooks("value", where=("n", "count").__contains__)
)
RUN_05_bools = mutant("RUN-05", apply=overlooks("value", where="strict".__eq__))

RUN_05_nested = mutant(
    "RUN-05", apply=overlooks("value", where=lambda name: name.startswith("sizes["))
)


def _brought_near(name: str, near: Callable[[Any], Any]) -> Any:
    """Take one argument for what `near` makes of it, as loose comparisons do."""

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        if name in kwargs:
            kwargs[name] = near(kwargs[name])
        return answer(*args, **kwargs)

    return around(change)


RUN_05_near = mutant("RUN-05", apply=_brought_near("eps", lambda eps: round(eps, 6)))
RUN_05_case = mutant("RUN-05", apply=_brought_near("mode", str.lower))
RUN_05_large = mutant("RUN-05", apply=_brought_near("count", lambda n: int(float(n))))


def _true_is_one(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if kwargs.get("strict") == 1:
        kwargs["strict"] = True
    return answer(*args, **kwargs)


def _whole_floats_are_ints(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if kwargs.get("count") == 3:  # the exported value
        kwargs["count"] = 3
    return answer(*args, **kwargs)


RUN_06_bools = mutant("RUN-06", apply=around(_true_is_one))
RUN_06_numbers = mutant("RUN-06", apply=around(_whole_floats_are_ints))


def _nan_is_not_nan(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if any(isinstance(v, float) and v != v for v in kwargs.values()):  # noqa: PLR0124
        raise ValueError("limit differs from the exported one")
    return answer(*args, **kwargs)


def _by_identity(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if kwargs.get("mode", "plus") is not sys.intern("plus"):
        raise ValueError("mode differs from the exported one")
    return answer(*args, **kwargs)


RUN_07_nan = mutant("RUN-07", apply=around(_nan_is_not_nan))
RUN_07_identity = mutant("RUN-07", apply=around(_by_identity))

RUN_08_enums = mutant("RUN-08", apply=overlooks("value", where="kind".__eq__))
RUN_08_dtypes = mutant("RUN-08", apply=overlooks("value", where="dtype".__eq__))

RUN_09_none = mutant("RUN-09", apply=overlooks("type", found="found None"))
RUN_09_swapped = mutant("RUN-09", apply=overlooks("value", "type"))
RUN_09_nested = mutant(
    "RUN-09",
    apply=overlooks("value", "type", where=lambda name: "add" in name),
)

RUN_10_numbers = mutant("RUN-10", apply=overlooks("type", where=nested))
RUN_10_tensors = mutant("RUN-10", apply=overlooks("value", found="found int64[]"))

RUN_11 = mutant("RUN-11", apply=overlooks("structure"))
RUN_11_dicts = mutant("RUN-11", apply=overlooks("structure", where="extra".__eq__))


def _as_json_spells_it(key: Any) -> Change:
    """Take keys for `key` that JSON spells as it."""

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        if "by" in kwargs:
            by = kwargs["by"].items()
            kwargs["by"] = {key if str(k) == str(key) else k: v for k, v in by}
        return answer(*args, **kwargs)

    return change


RUN_11_keys = mutant("RUN-11", apply=around(_as_json_spells_it(1)))
RUN_11_digits = mutant("RUN-11", apply=around(_as_json_spells_it("1")))


def _fields_by_position(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    x, size = args
    return answer(x, calls.Size(*size), **kwargs)


RUN_12 = mutant("RUN-12", apply=around(_fields_by_position))


def _sorted_parts(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if "parts" in kwargs:
        one, (two, three) = kwargs["parts"]
        turned = sorted([two, three], key=lambda x: float(x[0]))
        kwargs["parts"] = (one, turned)
    return answer(*args, **kwargs)


def _sorted_fields(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if isinstance(args[1], calls.Size):
        args = (args[0], calls.Size(*sorted(args[1], key=lambda x: float(x[0]))))
    return answer(*args, **kwargs)


RUN_13_parts = mutant("RUN-13", apply=around(_sorted_parts))
RUN_13_fields = mutant("RUN-13", apply=around(_sorted_fields))
