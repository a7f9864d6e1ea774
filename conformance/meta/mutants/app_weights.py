"""Mutants of the chapter APP: weights, copies, processes and memory."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aoti_ref._binding import Binding
from aoti_ref._hooks import Children
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import (
    Held,
    afterwards,
    as_it_was,
    on_a_copy,
    on_a_shared_twin,
    on_a_twin_then,
    shared_twin,
)
from conformance.meta.mutants._around import only_direct_children, without
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from pathlib import Path


def _empties(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data = torch.empty(0)


def _renames(module: nn.Module) -> None:
    own = module.state_dict
    module.state_dict = lambda: {f"module.{n}": t for n, t in own().items()}  # type: ignore[method-assign, assignment]


def _deaf_to_loading(module: nn.Module) -> None:
    module.load_state_dict = lambda *_args, **_kwargs: None  # type: ignore[method-assign]


class _CopiesAtFirst(Held):
    """Copies the weights when it is called first, and not again."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.copied = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.copied:
            self.module, self.copied = copy.deepcopy(self.module), True
        return super().__call__(*args, **kwargs)


def _copies_at_first(compiled: Any, module: nn.Module) -> None:
    twin = shared_twin(module)
    reference.apply(compiled, twin)
    module.forward = _CopiesAtFirst(twin)


APP_10_empties = mutant("APP-10", apply=on_a_twin_then(_empties))
APP_10_renames = mutant("APP-10", apply=afterwards(_renames))
APP_11 = mutant("APP-11", apply=afterwards(_deaf_to_loading))
APP_12_copies = mutant("APP-12", apply=on_a_copy(as_it_was))
APP_12_late = mutant("APP-12", apply=_copies_at_first)
APP_13 = mutant("APP-13", apply=on_a_shared_twin)


def _by_address(binding: Binding, _module: nn.Module) -> bool:
    """Look at the memory of weights, and not at what it is read as."""
    now = [owner.get(key) for (owner, key), _, _ in binding._bound]
    at = [address for _, _, (address, *_) in binding._bound]
    same = [t is not None and t.data_ptr() == a for t, a in zip(now, at, strict=True)]
    return all(same)


APP_13_address = mutant("APP-13", apply=without(Binding, "holds", _by_address))


def _forgets_to_restore(module: nn.Module) -> None:
    if "forward" not in vars(module):
        raise Refused("nothing was applied")


def _always_restores(module: nn.Module) -> None:
    vars(module).pop("forward", None)


def _keeps_a_way_back(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    module.way_back = copy.deepcopy(module.state_dict())  # type: ignore[assignment]


def _restores_old_weights(module: nn.Module) -> None:
    reference.restore(module)
    module.load_state_dict(module.way_back)  # type: ignore[arg-type]


APP_14_stale = mutant("APP-14", apply=_keeps_a_way_back, restore=_restores_old_weights)
APP_14_forgets = mutant("APP-14", restore=_forgets_to_restore)
APP_14_always = mutant("APP-14", restore=_always_restores)


def _restores_the_class(module: nn.Module) -> None:
    reference.restore(module)
    vars(module).pop("forward", None)


def _restores_bare_modules(module: nn.Module) -> None:
    if hasattr(module, "_hf_hook"):
        raise Refused("nothing was applied")
    reference.restore(module)


APP_14_own = mutant("APP-14", restore=_restores_the_class)
APP_14_hooked = mutant("APP-14", restore=_restores_bare_modules)
APP_15 = mutant("APP-15", apply=on_a_twin_then(_empties))


class _Shared(Held):
    """Copies share what they run."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


def _copies_share(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    twin = copy.deepcopy(module)
    for name, parameter in twin.named_parameters():
        parameter.data = module.get_parameter(name).data
    module.forward = _Shared(twin)


APP_16 = mutant("APP-16", apply=_copies_share)


class _Forgetful:
    """Comes out of pickle with weights of its own invention."""

    def __init__(self, applied: Any) -> None:
        self.applied = applied

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.applied(*args, **kwargs)

    def __reduce__(self) -> Any:
        return _zeros, ()


def _zeros() -> Any:
    return torch.zeros_like


def _pickles_badly(module: nn.Module) -> None:
    module.forward = _Forgetful(module.forward)


APP_17 = mutant("APP-17", apply=afterwards(_pickles_badly))

_ME = os.getpid()


def _loads_at_home_only(folder: Path) -> Any:
    if (folder / "maker").read_text() != str(os.getpid()):
        message = "module 'torch._inductor' has no attribute 'codecache'"
        raise AttributeError(message)
    return reference.load(folder)


def _signs(compiled: Any, folder: Path) -> None:
    reference.save(compiled, folder)
    (folder / "maker").write_text(str(os.getpid()))


APP_18 = mutant("APP-18", load=_loads_at_home_only, save=_signs)


def _probes_the_compiler(folder: Path) -> Any:
    from torch._inductor.cpp_builder import get_cpp_compiler

    get_cpp_compiler()
    return reference.load(folder)


APP_19 = mutant("APP-19", load=_probes_the_compiler)
APP_20 = mutant("APP-20", apply=on_a_copy(as_it_was))

_kept: list[nn.Module] = []

APP_21 = mutant("APP-21", apply=afterwards(_kept.append))
APP_27 = mutant("APP-27", apply=on_a_shared_twin)


# What a child's class has is not looked at.
def _blind_to_classes(children: Children) -> bool:
    children._codes = []
    return _unchanged(children)


_unchanged = Children.unchanged
APP_27_class = mutant("APP-27", apply=without(Children, "unchanged", _blind_to_classes))
APP_27_deep = mutant("APP-27", apply=only_direct_children)
