"""Mutants of the chapter CST: memory that is shared, written to, or returned."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from aoti_ref import _binding
from aoti_ref._binding import Binding
from conformance.adapters import reference
from conformance.meta.mutants._applied import as_it_was, on_a_copy, on_a_shared_twin
from conformance.meta.mutants._around import accepts, around, without
from conformance.meta.mutants._make import mutant
from conformance.models import state

if TYPE_CHECKING:
    from torch import nn


# CST-13: weights are read from the start of their storage.
def _forgets_offsets(module: nn.Module) -> None:
    for parameter in module.parameters():
        storage = parameter.untyped_storage()
        if storage.nbytes() > parameter.nbytes:
            start = torch.empty(0, dtype=parameter.dtype)
            parameter.data = start.set_(storage, 0, parameter.shape, parameter.stride())


def _from_the_start(compiled: Any, module: nn.Module) -> None:
    _forgets_offsets(module)
    reference.apply(compiled, module)


CST_13 = mutant("CST-13", apply=_from_the_start)


# CST-14: weights are copied to memory of their own; or a twin keeps old ties.
def _apart(compiled: Any, module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    reference.apply(compiled, module)


CST_14_apart = mutant("CST-14", apply=_apart)
CST_14_stale = mutant("CST-14", apply=on_a_shared_twin)


# CST-15: a file's weights are read from its beginning; or loading is not seen.
CST_15_offsets = mutant("CST-15", apply=_from_the_start)
CST_15_stale = mutant("CST-15", apply=on_a_shared_twin)


# CST-16: state is kept where nobody sees it; some of it is lost; it moves.
def _loses_integers(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        kept = [b.clone() for b in module.buffers() if not b.is_floating_point()]
        result = answer(*args, **kwargs)
        exact = [b for b in module.buffers() if not b.is_floating_point()]
        for buffer, old in zip(exact, kept, strict=True):
            buffer.copy_(old)
        return result

    module.forward = forward


def _moves(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        for name, buffer in list(module.named_buffers()):
            setattr(module, name, buffer.clone())
        return answer(*args, **kwargs)

    module.forward = forward


CST_16_unseen = mutant("CST-16", apply=on_a_copy(as_it_was))
CST_16_integers = mutant("CST-16", apply=_loses_integers)
CST_16_moved = mutant("CST-16", apply=_moves)

_first: dict[type, nn.Module] = {}


# CST-17: modules of one class have one state.
def _shares_state(compiled: Any, module: nn.Module) -> None:
    first = _first.setdefault(type(module), module)
    for name, buffer in first.named_buffers():
        setattr(module, name, buffer)
    reference.apply(compiled, module)


CST_17 = mutant("CST-17", apply=_shares_state)

# CST-18: state that is set is the module's, and the state that counts is not.
CST_18_unseen = mutant("CST-18", apply=on_a_copy(as_it_was))
CST_18_stale = mutant("CST-18", apply=on_a_shared_twin)


# CST-19: nobody looks whether tensors share memory.
def _unshared(compiled: Any, module: nn.Module) -> None:
    with patch.object(_binding, "share", lambda *_: False):
        reference.apply(compiled, module)
    answer = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with patch.object(_binding, "share", lambda *_: False):
            return answer(*args, **kwargs)

    module.forward = forward


def _copies(answer: Any, args: Any, kwargs: Any) -> Any:
    return answer(*(arg.clone() for arg in args), **kwargs)


# Or arguments that are given by name are not looked at.
def _shared_by_place(binding: Binding, args: Any, _kwargs: Any) -> Any:
    return _shared(binding, args, {})


_shared = Binding.shared
CST_19_blind = mutant("CST-19", apply=_unshared)
CST_19_named = mutant("CST-19", apply=without(Binding, "shared", _shared_by_place))
CST_19_copies = mutant("CST-19", apply=around(_copies))


# CST-20: what a call notes is gone after it; or never reaches the module.
def _forgets(answer: Any, args: Any, kwargs: Any) -> Any:
    module = answer.__self__
    before = module.note.clone()
    result = answer(*args, **kwargs)
    module.note.copy_(before)
    return result


def _notes_elsewhere(answer: Any, args: Any, kwargs: Any) -> Any:
    module = answer.__self__
    twin = vars(module).setdefault("twin", copy.deepcopy(type(module)()))
    return type(module).forward(twin, *args, **kwargs)


_WRITERS: Any = (state.Noting, state.Learning, state.Doubly)
CST_20_forgets = mutant("CST-20", **accepts(_WRITERS, _forgets))
CST_20_unseen = mutant(
    "CST-20", own_cache="unseen", **accepts(_WRITERS, _notes_elsewhere)
)

_returned: dict[int, Any] = {}


# CST-21: a returned constant is a copy from the first call; or memory that is freed.
def _stale(answer: Any, args: Any, kwargs: Any) -> Any:
    found = answer(*args, **kwargs)
    own = _returned.setdefault(id(answer), [tensor.clone() for tensor in found[1:]])
    return found[0], *own


def _dangling(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer = module.forward

    class Owner:
        def __init__(self, tensors: Any) -> None:
            self.tensors = tensors

        def __del__(self) -> None:
            for tensor in self.tensors:
                tensor.fill_(1e30)

    def forward(*args: Any, **kwargs: Any) -> Any:
        found = answer(*args, **kwargs)
        forward.owner = Owner(found[1:])  # type: ignore[attr-defined]
        return found

    module.forward = forward


CST_21_stale = mutant("CST-21", apply=around(_stale))
CST_21_dangling = mutant("CST-21", apply=_dangling)

# CST-24: each change is seen by a twin that shares tensors; an exchange is not.
CST_24 = mutant("CST-24", apply=on_a_shared_twin)


_applied: list[nn.Module] = []


# CST-24: a load into one module reaches the other.
def _loads_both(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    _applied.append(module)
    own = module.load_state_dict

    def load(*args: Any, **kwargs: Any) -> Any:
        for other in _applied[-2:]:
            type(other).load_state_dict(other, *args, **kwargs)
        return own(*args, **kwargs)

    module.load_state_dict = load  # type: ignore[method-assign]


CST_24_both = mutant("CST-24", apply=_loads_both)
