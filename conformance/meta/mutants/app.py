"""Mutants of the chapter APP: answers, looks and hooks."""

from __future__ import annotations

import copy
import types
from typing import Any

import torch
from torch import nn

from aoti_ref import _values
from aoti_ref._hooks import inner_method
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import (
    Held,
    afterwards,
    altered,
    on_a_shared_twin,
    on_a_twin_then,
    shared_twin,
)
from conformance.meta.mutants._around import only_direct_children, without
from conformance.meta.mutants._make import mutant


def _wrong_at_the_end(x: torch.Tensor) -> torch.Tensor:
    return x + 1e-3 if x.ndim == 3 and x.shape[1] == 24 else x


# Strings are not held to those of the export; nor are functions and dtypes.
def _blind_to_strings(found: Any, wanted: Any) -> bool:
    return isinstance(wanted, str) or _same(found, wanted)


_same = _values.same
APP_01_strings = mutant("APP-01", apply=without(_values, "same", _blind_to_strings))
APP_01_objects = mutant(
    "APP-01", apply=without(_values, "_same_object", lambda *_: True)
)
APP_01_drift = mutant("APP-01", apply=altered(lambda x: x + 1e-3))
APP_01_end = mutant("APP-01", apply=altered(_wrong_at_the_end))


def _eager_in_disguise(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, copy.deepcopy(module))


APP_02 = mutant("APP-02", apply=_eager_in_disguise)


def _half_before_refusing(compiled: Any, module: nn.Module) -> None:
    module.half_applied = True  # type: ignore[assignment]
    reference.apply(compiled, module)
    del module.half_applied


def _trusting(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        module.forward = types.MethodType(type(module).forward, module)


def _releases_first(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        for parameter in module.parameters():
            parameter.data = torch.empty(0, dtype=parameter.dtype)
        raise


APP_03_releases = mutant("APP-03", apply=_releases_first)
APP_03_half = mutant("APP-03", apply=_half_before_refusing)
APP_03_trusting = mutant("APP-03", apply=_trusting)


def _floats_only(module: nn.Module) -> None:
    for name, buffer in module.named_buffers():
        if not buffer.is_floating_point():
            module.get_buffer(name).data = buffer.float()


def _floats_after(compiled: Any, module: nn.Module) -> None:
    twin = copy.deepcopy(module)
    reference.apply(compiled, twin)
    module.forward = Held(twin)
    _floats_only(module)


APP_04 = mutant("APP-04", apply=_floats_after)


def _all_parameters(compiled: Any, module: nn.Module) -> None:
    twin = copy.deepcopy(module)
    reference.apply(compiled, twin)
    module.forward = Held(twin)
    for name, buffer in list(module.named_buffers()):
        if buffer.is_floating_point():
            delattr(module, name)
            module.register_parameter(name, nn.Parameter(buffer, requires_grad=False))


def _unties(module: nn.Module) -> None:
    for child in module.children():
        if isinstance(child, nn.Linear):
            child.weight = nn.Parameter(child.weight.clone(), requires_grad=False)


def _keeps_all(module: nn.Module) -> None:
    module._non_persistent_buffers_set.clear()


def _no_gradients(module: nn.Module) -> None:
    module.requires_grad_(requires_grad=False)


APP_05_persistence = mutant("APP-05", apply=afterwards(_keeps_all))
APP_05_gradients = mutant("APP-05", apply=afterwards(_no_gradients))
APP_05_parameters = mutant("APP-05", apply=_all_parameters)
APP_05_ties = mutant("APP-05", apply=on_a_twin_then(_unties))


def _loses_config(module: nn.Module) -> None:
    module.__dict__.pop("config", None)
    module.config = {}  # type: ignore[assignment]


def _starts_training(module: nn.Module) -> None:
    applied = module.forward
    module.training = True

    def forward(*args: Any, **kwargs: Any) -> Any:
        module.training = False
        try:
            return applied(*args, **kwargs)
        finally:
            module.training = True

    module.forward = forward


APP_06_config = mutant("APP-06", apply=afterwards(_loses_config))
APP_06_training = mutant("APP-06", apply=afterwards(_starts_training))


def _hides_the_signature(module: nn.Module) -> None:
    applied = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return applied(*args, **kwargs)

    module.forward = forward


APP_07 = mutant("APP-07", apply=afterwards(_hides_the_signature))


def _drops_hooks(module: nn.Module) -> None:
    module._forward_hooks.clear()
    module._forward_pre_hooks.clear()
    applied = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        module._forward_hooks.clear()
        return applied(*args, **kwargs)

    module.forward = forward


class _RunsHooksTwice(Held):
    """Runs the hooks of the module by itself, though torch does."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def _hooks_twice(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    twin = copy.deepcopy(module)
    twin._forward_hooks = module._forward_hooks
    twin._forward_pre_hooks = module._forward_pre_hooks
    module.forward = _RunsHooksTwice(twin)


def _deaf_to_children(compiled: Any, module: nn.Module) -> None:
    twin = copy.deepcopy(module)
    for child in twin.modules():
        child._forward_hooks.clear()
    reference.apply(compiled, twin)
    module.forward = Held(twin)


APP_08_drops = mutant("APP-08", apply=afterwards(_drops_hooks))
APP_08_twice = mutant("APP-08", apply=_hooks_twice)
APP_09_deaf = mutant("APP-09", apply=_deaf_to_children)
APP_09_later = mutant("APP-09", apply=on_a_shared_twin)
APP_09_deep = mutant("APP-09", apply=only_direct_children)

_first: dict[type, Any] = {}


def _first_module_for_all(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    kept = _first.setdefault(type(module), copy.deepcopy(module))
    module.forward = Held(kept)


APP_22 = mutant("APP-22", apply=_first_module_for_all)


def _over_the_wrapper(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    inner = inner_method(module, "forward")
    module.forward = getattr(module, inner)


APP_23 = mutant("APP-23", apply=_over_the_wrapper)


def _wraps_twice(compiled: Any, module: nn.Module) -> None:
    before = vars(module).get("forward")
    reference.apply(compiled, module)
    if before is not None:
        applied = module.forward
        module.forward = lambda *args: applied(before(*args))


APP_24 = mutant("APP-24", apply=_wraps_twice)


class _AlwaysEval(Held):
    """Answers in training mode as if it were not."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.module.eval()
        return super().__call__(*args, **kwargs)


def _ignores_training(compiled: Any, module: nn.Module) -> None:
    twin = copy.deepcopy(module)
    reference.apply(compiled, twin)
    module.forward = _AlwaysEval(twin)


class _AskedAtTheTop(Held):
    """Looks at the training flag of the module, and not at its children's."""

    def __init__(self, module: nn.Module, outer: nn.Module) -> None:
        super().__init__(module)
        self.outer = outer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.outer.training:
            message = "the module is in training mode"
            raise RuntimeError(message)
        return super().__call__(*args, **kwargs)


def _ignores_parts(compiled: Any, module: nn.Module) -> None:
    twin = shared_twin(module).eval()
    reference.apply(compiled, twin)
    module.forward = _AskedAtTheTop(twin, module)


APP_25_all = mutant("APP-25", apply=_ignores_training)
APP_25_part = mutant("APP-25", apply=_ignores_parts)
APP_25_deep = mutant("APP-25", apply=only_direct_children)


def _sulks(module: nn.Module) -> None:
    applied = module.forward
    hurt: list[Exception] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        if hurt:
            raise hurt[0]
        try:
            return applied(*args, **kwargs)
        except Exception as error:
            hurt.append(error)
            raise

    module.forward = forward


APP_26 = mutant("APP-26", apply=afterwards(_sulks))
