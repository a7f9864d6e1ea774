"""Mutants of the chapter CAP: captures that are right for one tensor, bar or hook."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _capture
from aoti_ref._call import Call, snapshot
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    # What a snapshot keeps of a leaf, and whether that was a positional argument.
    Keep = Callable[[Any, bool], Any]


def _kept_by(keep: Keep, *, every: bool = False) -> Any:
    """Capture with snapshots that hold what `keep` makes of each leaf."""

    def taken(args: Any, kwargs: Any) -> Call:
        copies: dict[int, Any] = {}

        def copy(leaf: Any, *, first: bool) -> Any:
            if not isinstance(leaf, torch.Tensor):
                return keep(leaf, first)
            return copies.setdefault(id(leaf), keep(leaf, first))

        held = pytree.tree_map(functools.partial(copy, first=True), args)
        named = pytree.tree_map(functools.partial(copy, first=False), dict(kwargs))
        return Call(held, named)

    verb: Any = reference.capture_calls if every else reference.capture

    @contextmanager
    def capture(*args: Any) -> Iterator[Any]:
        with patch.object(_capture, "snapshot", taken), verb(*args) as record:
            yield record

    return capture


def _copied(leaf: Any) -> Any:
    return snapshot((leaf,), {}).args[0]


def _but_numbers(leaf: Any, _first: bool) -> Any:  # noqa: FBT001
    plain = isinstance(leaf, torch.Tensor) and leaf.ndim == 0
    return leaf if plain else _copied(leaf)


def _but_integers(leaf: Any, _first: bool) -> Any:  # noqa: FBT001
    plain = isinstance(leaf, torch.Tensor) and not leaf.is_floating_point()
    return leaf if plain else _copied(leaf)


def _but_keywords(leaf: Any, first: bool) -> Any:  # noqa: FBT001
    return _copied(leaf) if first else leaf


def _flat_above_two(leaf: Any, _first: bool) -> Any:  # noqa: FBT001
    made = _copied(leaf)
    deep = isinstance(leaf, torch.Tensor) and leaf.ndim > 2
    return made.contiguous() if deep else made


def _plain_numbers(leaf: Any, _first: bool) -> Any:  # noqa: FBT001
    for kind in (int, float):
        if isinstance(leaf, kind) and type(leaf) is not bool:
            return kind(leaf)
    return _copied(leaf)


def _detached_keywords(leaf: Any, first: bool) -> Any:  # noqa: FBT001
    made = _copied(leaf)
    return made.detach() if isinstance(made, torch.Tensor) and not first else made


def _keywords_of_inference(leaf: Any, first: bool) -> Any:  # noqa: FBT001
    other = isinstance(leaf, torch.Tensor) and not first
    return leaf.detach().clone() if other else _copied(leaf)


CAP_03_numbers = mutant("CAP-03", capture=_kept_by(_but_numbers))
CAP_03_integers = mutant("CAP-03", capture=_kept_by(_but_integers))
CAP_03_names = mutant("CAP-03", capture=_kept_by(_but_keywords))
CAP_04_deep = mutant("CAP-04", capture=_kept_by(_flat_above_two))
CAP_04_derived = mutant("CAP-04", capture=_kept_by(_plain_numbers))
CAP_14_numbers = mutant("CAP-14", capture_calls=_kept_by(_but_numbers, every=True))
CAP_14_names = mutant("CAP-14", capture_calls=_kept_by(_but_keywords, every=True))
CAP_17_names = mutant("CAP-17", capture=_kept_by(_detached_keywords))
CAP_19_names = mutant("CAP-19", capture=_kept_by(_keywords_of_inference))


@contextmanager
def _drops_the_instances(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    if method != "forward":
        vars(module).pop(method, None)


CAP_06_own = mutant("CAP-06", capture=_drops_the_instances)


@contextmanager
def _takes_hooks_for_its_own(
    module: nn.Module, method: str = "forward"
) -> Iterator[Any]:
    """Refuse in the place of what a call of the module raises."""
    try:
        with reference.capture(module, method) as record:
            yield record
    except Refused:
        raise
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_name != "_call_impl":
            trace = trace.tb_next
        if trace is None:
            raise
        message = f"{type(module).__name__} failed: {error}"
        raise Refused(message) from error


CAP_07_amid = mutant("CAP-07", capture=_takes_hooks_for_its_own)


@contextmanager
def _the_last_hook(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    hooks: Any = module._forward_pre_hooks
    before = dict(hooks)
    for key in list(hooks)[:-1]:
        del hooks[key]
    try:
        with reference.capture(module, method) as record:
            yield record
    finally:
        hooks.clear()
        hooks.update(before)


CAP_08_last = mutant("CAP-08", capture=_the_last_hook)


_open_bars = _capture._open_bars


@contextmanager
def _closes_one_bar(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    before = _open_bars()

    def bars() -> set[Any]:
        return before | set(list(_open_bars() - before)[:1])

    with (
        patch.object(_capture, "_open_bars", bars),
        reference.capture(module, method) as record,
    ):
        yield record


@contextmanager
def _closes_bars_at_last(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    """Close bars where the block does not fail."""
    before = _open_bars()
    with (
        patch.object(_capture, "_open_bars", set),
        reference.capture(module, method) as record,
    ):
        yield record
    for bar in _open_bars() - before:
        bar.close()


CAP_12_one = mutant("CAP-12", capture=_closes_one_bar)
CAP_12_failed = mutant("CAP-12", capture=_closes_bars_at_last)


_listening: set[int] = set()


@contextmanager
def _one_at_a_time(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    if id(module) in _listening:
        message = f"{type(module).__name__} is captured already"
        raise Refused(message)
    _listening.add(id(module))
    try:
        with reference.capture(module, method) as record:
            yield record
    finally:
        _listening.discard(id(module))


CAP_13_same = mutant("CAP-13", capture=_one_at_a_time)


@contextmanager
def _afterwards(module: nn.Module) -> Iterator[list[Any]]:
    """Record calls when they have been made."""
    calls: list[Any] = []
    original = module.forward

    @functools.wraps(original)
    def record(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        calls.append(snapshot(args, kwargs))
        return result

    with _capture.interpreted(module), patch.object(module, "forward", record):
        yield calls
    if not calls:
        message = f"{type(module).__name__} was not called"
        raise Refused(message)


@contextmanager
def _the_first_few(module: nn.Module) -> Iterator[list[Any]]:
    with reference.capture_calls(module) as calls:
        yield calls
    del calls[50:]


@contextmanager
def _each_once(module: nn.Module) -> Iterator[list[Any]]:
    """Forget calls that are equal to the one before."""
    with reference.capture_calls(module) as calls:
        yield calls
    leaves = [pytree.tree_leaves((call.args, dict(call.kwargs))) for call in calls]
    for n in range(len(calls) - 1, 0, -1):
        if str(leaves[n]) == str(leaves[n - 1]):
            del calls[n]


CAP_14_after = mutant("CAP-14", capture_calls=_afterwards)
CAP_14_few = mutant("CAP-14", capture_calls=_the_first_few)
CAP_14_equal = mutant("CAP-14", capture_calls=_each_once)


@contextmanager
def _by_position_only(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    with reference.capture(module, method) as record:
        yield record
    if method != "forward":
        record.kwargs = {}


CAP_16_names = mutant("CAP-16", capture=_by_position_only)


_failed: list[Any] = []


@contextmanager
def _remembers_failures(module: nn.Module, method: str = "forward") -> Iterator[Any]:
    try:
        with reference.capture(module, method) as record:
            yield record
    except BaseException:
        _failed.append(module)
        raise


CAP_18_failed = mutant("CAP-18", capture=_remembers_failures)
