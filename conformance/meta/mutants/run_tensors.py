"""Mutants of the chapter RUN: the tensors of a call."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakTensorKeyDictionary

from conformance.meta.mutants._around import around
from conformance.meta.mutants._lenient import nested, overlooks, stateful
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.meta.mutants._around import Answer, Args, Change, Kwargs

_SIZES = ("size", "shared", "range")

RUN_14 = mutant("RUN-14", apply=overlooks("dtype"))
RUN_14_first = mutant("RUN-14", apply=overlooks("dtype", where="x".__ne__))
RUN_14_nested = mutant("RUN-14", apply=overlooks("dtype", where=nested))
RUN_14_keywords = mutant("RUN-14", apply=overlooks("dtype", where="size".__eq__))
RUN_14_integers = mutant("RUN-14", apply=overlooks("dtype", found="wants int64"))

RUN_15 = mutant("RUN-15", apply=overlooks("rank"))
RUN_15_nested = mutant("RUN-15", apply=overlooks("rank", where=nested))
RUN_15_scalars = mutant("RUN-15", apply=overlooks("rank", where="size".__eq__))

RUN_16 = mutant("RUN-16", apply=overlooks(*_SIZES))
RUN_16_nested = mutant("RUN-16", apply=overlooks("size", where=nested))
RUN_16_shared = mutant("RUN-16", apply=overlooks("shared"))
RUN_16_last = mutant(
    "RUN-16", apply=overlooks("size", where=lambda name: name.endswith("[1]"))
)

RUN_17 = mutant("RUN-17", apply=overlooks(*_SIZES, found="found 1"))
RUN_17_nested = mutant("RUN-17", apply=overlooks("size", where=nested, found="found 1"))

RUN_18 = mutant("RUN-18", apply=overlooks(*_SIZES, found="found 0"))
RUN_18_nested = mutant("RUN-18", apply=overlooks("size", where=nested, found="found 0"))


def tensors(change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """Change every tensor of a call before it is made."""

    def changed(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        args, kwargs = pytree.tree_map_only(torch.Tensor, change, (args, kwargs))
        return answer(*args, **kwargs)

    return changed


def _dense_strides(x: torch.Tensor) -> tuple[int, ...]:
    strides = [1]
    for size in reversed(x.shape[1:]):
        strides.append(strides[-1] * max(size, 1))
    return tuple(reversed(strides[: x.ndim]))


def misread(x: torch.Tensor) -> torch.Tensor:
    """Read the elements one after the other, whatever the strides are."""
    if x.layout is not torch.strided or x.is_contiguous() or x.is_meta:
        return x
    room = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
    return x.as_strided(x.shape, _dense_strides(x)) if room >= x.numel() else x * 0


def _misread_keywords(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return answer(*args, **pytree.tree_map_only(torch.Tensor, misread, kwargs))


RUN_19 = mutant("RUN-19", apply=around(tensors(misread)))
RUN_19_keywords = mutant("RUN-19", apply=around(_misread_keywords))


def _as_the_example(x: torch.Tensor) -> torch.Tensor:
    """Read float32[6, 8] as the transposed example is laid out."""
    if tuple(x.shape) != (6, 8) or not x.is_contiguous():
        return x
    return x.as_strided((6, 8), (1, 6))


RUN_20 = mutant("RUN-20", apply=around(tensors(_as_the_example)))
RUN_20_other = mutant("RUN-20", apply=around(tensors(misread)))


def _only_dense(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    for leaf in pytree.tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor) and not leaf.is_contiguous():
            raise ValueError("an argument is not contiguous")
    return answer(*args, **kwargs)


def _only_as_exported(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    if len(args) != 3:  # x, ids and mask
        raise ValueError(f"expected 3 positional arguments, found {len(args)}")
    return answer(*args, **kwargs)


RUN_21_strides = mutant("RUN-21", apply=around(_only_dense))
RUN_21_positions = mutant("RUN-21", apply=around(_only_as_exported))


def _write_before(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    result = answer(*args, **kwargs)
    for leaf in pytree.tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor) and leaf.storage_offset():
            leaf.as_strided((1,), (1,), leaf.storage_offset() - 1).fill_(1)
    return result


RUN_22 = mutant("RUN-22", apply=around(_write_before))
RUN_22_reads = mutant("RUN-22", apply=around(tensors(misread)))


def _taken_for_one(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Give tensors that stand on one memory the strides and offset of the first."""
    first: dict[int, torch.Tensor] = {}

    def merged(x: torch.Tensor) -> torch.Tensor:
        seen = first.setdefault(x.untyped_storage().data_ptr(), x)
        return seen.clone() if seen.shape == x.shape else x

    args, kwargs = pytree.tree_map_only(torch.Tensor, merged, (args, kwargs))
    return answer(*args, **kwargs)


RUN_23 = mutant("RUN-23", apply=around(_taken_for_one))


def _by_identity() -> Change:
    known: dict[int, Any] = {}

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        result = answer(*args, **kwargs)
        return known.setdefault(id(args[0]), result)

    return change


RUN_24 = mutant("RUN-24", apply=stateful(_by_identity))


def _keeps_what_it_laid_out() -> Change:
    """Keep the dense copy of an argument for as long as the argument lives."""
    kept = WeakTensorKeyDictionary()

    def dense(x: torch.Tensor) -> torch.Tensor:
        if x.layout is not torch.strided or x.is_contiguous():
            return x
        if x not in kept:
            kept[x] = x.contiguous()
        copied: torch.Tensor = kept[x]
        return copied

    return tensors(dense)


RUN_24_dense = mutant("RUN-24", apply=stateful(_keeps_what_it_laid_out))
RUN_25 = mutant("RUN-25", apply=overlooks("device"))
RUN_26_sparse = mutant("RUN-26", apply=overlooks("layout"))
RUN_26_quantised = mutant("RUN-26", apply=overlooks("dtype", found="qint8"))
RUN_27 = mutant("RUN-27", apply=around(tensors(lambda x: x.as_subclass(torch.Tensor))))


def _without_the_bit(x: torch.Tensor) -> torch.Tensor:
    """Read memory as it is, without the conjugation or negation that is pending."""
    if x.is_conj():
        return x.conj()
    return -x if x.is_neg() else x


RUN_28_negated = mutant("RUN-28", apply=around(tensors(_without_the_bit)))


def _conjugated(x: torch.Tensor) -> torch.Tensor:
    return x.conj() if x.is_conj() else x


RUN_28_conjugated = mutant("RUN-28", apply=around(tensors(_conjugated)))


def _without_gradients(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    with torch.no_grad():
        return answer(*args, **kwargs)


RUN_29 = mutant("RUN-29", apply=around(_without_gradients))
RUN_29_nested = mutant("RUN-29", apply=overlooks("gradient", where=nested))


def _leaves_grad_mode_off(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    result = answer(*args, **kwargs)
    torch.set_grad_enabled(False)  # and nobody sets it on again
    return result


RUN_29_mode = mutant("RUN-29", apply=around(_leaves_grad_mode_off))


def _off_in_inference(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    drift = 1e-2 * torch.is_inference_mode_enabled()
    return answer(*args, **kwargs) + drift


def _always_in_inference(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    with torch.inference_mode():
        return answer(*args, **kwargs)


RUN_30_modes = mutant("RUN-30", apply=around(_off_in_inference))
RUN_30_results = mutant("RUN-30", apply=around(_always_in_inference))


def _without_autocast(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        return answer(*args, **kwargs)


RUN_31 = mutant("RUN-31", apply=around(_without_autocast))


def _copied(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    clone = functools.partial(pytree.tree_map_only, torch.Tensor, torch.clone)
    return clone(answer(*args, **kwargs))


RUN_32 = mutant("RUN-32", apply=around(_copied))


def _sparing_copies(result: Any, known: list[torch.Tensor]) -> Any:
    """Give what is known already in the place of tensors that equal it."""

    def spared(x: torch.Tensor) -> torch.Tensor:
        known.append(x)
        return next(k for k in known if k.dtype is x.dtype and torch.equal(k, x))

    return pytree.tree_map_only(torch.Tensor, spared, result)


def _gives_arguments(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return _sparing_copies(answer(*args, **kwargs), [*args])


def _gives_results_twice(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    return _sparing_copies(answer(*args, **kwargs), [])


RUN_32_arguments = mutant("RUN-32", apply=around(_gives_arguments))
RUN_32_results = mutant("RUN-32", apply=around(_gives_results_twice))
