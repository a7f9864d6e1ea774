"""Mutants of the chapter RUN: refusals, and what comes after them."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from aoti_ref import BadCall
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._around import around, results
from conformance.meta.mutants._lenient import nested, overlooks, stateful
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants.run_tensors import tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Change, Kwargs


def _plain(result: Any) -> Any:
    if isinstance(result, dict) and hasattr(result.get("output"), "sample"):
        return {**result, "output": tuple(vars(result["output"]).values())}
    return result


RUN_33 = mutant("RUN-33", apply=results(_plain))


def _says_little(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except BadCall:
        raise Refused("the call does not fit the compiled graph") from None


def _says_one_thing(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except BadCall as error:
        raise BadCall(error.module, error.faults[:1]) from None


RUN_34 = mutant("RUN-34", apply=around(_says_little))
RUN_35 = mutant("RUN-35", apply=around(_says_one_thing))


def _off_after_a_refusal() -> Change:
    refused = False

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        nonlocal refused
        try:
            result = answer(*args, **kwargs)
        except BadCall:
            refused = True
            raise
        drift, refused = 1e-2 * refused, False
        return result + drift

    return change


def _stuck_after_a_refusal() -> Change:
    refused = False

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        nonlocal refused
        if refused:
            raise Refused("the call before was refused: x, ids")
        try:
            return answer(*args, **kwargs)
        except BadCall:
            refused = True
            raise

    return change


RUN_36_off = mutant("RUN-36", apply=stateful(_off_after_a_refusal))
RUN_36_stuck = mutant("RUN-36", apply=stateful(_stuck_after_a_refusal))


def _keeps_arguments() -> Change:
    kept: list[Any] = []

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        try:
            return answer(*args, **kwargs)
        except BadCall:
            kept.append((args, kwargs))
            raise

    return change


def _keeps_copies() -> Change:
    kept: list[torch.Tensor] = []

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        try:
            return answer(*args, **kwargs)
        except BadCall:
            kept.append(args[0].untyped_storage().clone())
            raise

    return change


def _keeps_keywords() -> Change:
    last: list[Kwargs] = []

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        try:
            return answer(*args, **kwargs)
        except BadCall:
            last[:] = [dict(kwargs)]
            raise

    return change


RUN_37_keywords = mutant("RUN-37", apply=stateful(_keeps_keywords))
RUN_37_arguments = mutant("RUN-37", apply=stateful(_keeps_arguments))
RUN_37_memory = mutant("RUN-37", apply=stateful(_keeps_copies))


def _looks_once() -> Change:
    last: list[Any] = []

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        try:
            last[:] = [answer(*args, **kwargs)]
        except BadCall:
            if not last:
                raise
        return last[0]

    return change


RUN_38 = mutant("RUN-38", apply=stateful(_looks_once))


def _knows_the(objects: Callable[[Args, Kwargs], list[Any]]) -> Change:
    """Let a call pass that is made of the very objects of the last good one."""
    last: list[Any] = []

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        given = [id(found) for found in objects(args, kwargs)]
        try:
            last[:] = [answer(*args, **kwargs), given]
        except BadCall:
            if not last or last[1] != given:
                raise
        return last[0]

    return change


def _arguments(args: Args, kwargs: Kwargs) -> list[Any]:
    return [*args, *kwargs.values()]


def _leaves(args: Args, kwargs: Kwargs) -> list[Any]:
    return pytree.tree_leaves((args, kwargs))


RUN_38_arguments = mutant("RUN-38", apply=stateful(partial(_knows_the, _arguments)))
RUN_38_leaves = mutant("RUN-38", apply=stateful(partial(_knows_the, _leaves)))

RUN_39_structure = mutant("RUN-39", apply=overlooks("structure"))
RUN_39_missing = mutant("RUN-39", apply=overlooks("missing", "arguments"))
RUN_39_nested = mutant("RUN-39", apply=overlooks("dtype", where=nested))
RUN_39_scalars = mutant("RUN-39", apply=overlooks("value"))


def _densely(x: torch.Tensor) -> torch.Tensor:
    """Take whatever is expanded for what its first elements are."""
    return x + 1 if 0 in x.stride() and x.numel() > 1 and x.ndim else x


RUN_39_expanded = mutant("RUN-39", apply=around(tensors(_densely)))

RUN_40_dtype = mutant("RUN-40", apply=overlooks("dtype"))
RUN_40_sizes = mutant("RUN-40", apply=overlooks("size"))
RUN_40_none = mutant("RUN-40", apply=overlooks("type"))


def _with_the_weights_of_before(compiled: Any, module: nn.Module) -> None:
    twin = copy.deepcopy(module)
    vars(twin).pop("forward", None)
    reference.apply(compiled, twin)
    module.forward = twin.forward
    module.__dict__["_twin"] = twin


def _restores_nothing(module: nn.Module) -> None:
    """Take away one layer of what `apply` did, and leave those below."""
    reference.restore(module)
    module.get_parameter("proj.bias").data.add_(1)


RUN_41_weights = mutant("RUN-41", apply=_with_the_weights_of_before)
RUN_41_restore = mutant("RUN-41", restore=_restores_nothing)


def _from_a_stream_of_its_own(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    drawn = torch.rand(()).item()  # which moves torch's generator on
    with torch.random.fork_rng():
        torch.manual_seed(int(drawn * 2**31))
        return answer(*args, **kwargs)


def _same_noise_again(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    with torch.random.fork_rng():
        return answer(*args, **kwargs)


RUN_42_stream = mutant("RUN-42", apply=around(_from_a_stream_of_its_own))
RUN_42_again = mutant("RUN-42", apply=around(_same_noise_again))
