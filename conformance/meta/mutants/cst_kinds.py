"""Mutants of the chapter CST: what is right for small constants of the usual kinds."""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from aoti_ref import _attributes, _containers, _values, _weights
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import Held
from conformance.meta.mutants._around import without
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

_SAMPLE = 64
HALVES = (torch.float16, torch.bfloat16)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """List all that hangs on a module and its children, by name."""
    return {
        f"{name}.{key}".lstrip("."): tensor
        for name, child in module.named_modules()
        for held in (child._parameters, child._buffers, vars(child))
        for key, tensor in held.items()
        if isinstance(tensor, torch.Tensor)
    }


def _on_a_twin(compiled: Any, module: nn.Module, twin: nn.Module) -> None:
    reference.apply(compiled, twin)
    module.forward = Held(twin)


def _sampled(tensor: torch.Tensor) -> Any:
    flat = tensor.detach().reshape(-1)
    ends = torch.cat([flat[:_SAMPLE], flat[-_SAMPLE:]])
    return tensor._version, tensor.data_ptr(), tuple(tensor.shape), ends.tolist()


def _looks_at_samples(compiled: Any, module: nn.Module) -> None:
    """Copy weights anew where their ends, or their counters, are others."""
    twin = copy.deepcopy(module)
    reference.apply(compiled, twin)
    answer, seen = Held(twin), {n: _sampled(t) for n, t in _tensors(module).items()}

    def forward(*args: Any, **kwargs: Any) -> Any:
        mine = _tensors(twin)
        for name, tensor in _tensors(module).items():
            found = _sampled(tensor)
            if name in mine and found != seen.get(name):
                seen[name] = found
                mine[name].data.copy_(tensor.data)
        return answer(*args, **kwargs)

    module.forward = forward


def _forgets_who_changes_kind(compiled: Any, module: nn.Module) -> None:
    """Go on with a weight that is no parameter, or buffer, any more."""
    reference.apply(compiled, module)
    twin, answer = copy.deepcopy(module), module.forward
    before = {n: type(t) for n, t in _tensors(module).items()}

    def forward(*args: Any, **kwargs: Any) -> Any:
        now = {n: type(t) for n, t in _tensors(module).items()}
        other = any(now.get(n, kind) is not kind for n, kind in before.items())
        return (twin.forward if other else answer)(*args, **kwargs)

    module.forward = forward


CST_02_sampled = mutant("CST-02", apply=_looks_at_samples)
CST_03_kinds = mutant("CST-03", apply=_forgets_who_changes_kind)


def _constants(compiled: Any) -> list[Any]:
    models = getattr(compiled, "models", ())
    return [constant for model in models for constant in model.package.constants]


def _asks_every_child(compiled: Any, module: nn.Module) -> None:
    for constant in _constants(compiled):
        module.get_submodule(constant.name.rpartition(".")[0])
    reference.apply(compiled, module)


def _waits_for_none(compiled: Any, module: nn.Module) -> None:
    """Take None for a weight that is yet to come."""
    try:
        reference.apply(compiled, module)
    except Refused as refusal:
        words = str(refusal)
        kept: list[Any] = [module._parameters, module._buffers, vars(module)]
        names = {k for held in kept for k, tensor in held.items() if tensor is None}
        if not any(constant.name in names for constant in _constants(compiled)):
            raise

        def forward(*_args: Any, **_kwargs: Any) -> Any:
            raise Refused(words)

        module.forward = forward


CST_04_child = mutant("CST-04", apply=_asks_every_child)
CST_04_none = mutant("CST-04", apply=_waits_for_none)


def _widens_halves(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        twin = copy.deepcopy(module)
        held = _tensors(twin)
        for constant in _constants(compiled):
            tensor = held.get(constant.name)
            if tensor is None or tensor.dtype not in HALVES:
                continue
            if constant.dtype == "float32":
                tensor.data = tensor.data.float()
        _on_a_twin(compiled, module, twin)


CST_05_halves = mutant("CST-05", apply=_widens_halves)


def _reads_integers_densely(compiled: Any, module: nn.Module) -> None:
    held = dict(module.named_buffers())
    gaps = {
        name: tensor
        for name, tensor in held.items()
        if not (tensor.is_floating_point() or tensor.is_contiguous())
    }
    if not gaps:
        reference.apply(compiled, module)
        return
    twin = copy.deepcopy(module)
    for name, tensor in gaps.items():
        dense = torch.empty(tensor.shape).stride()
        setattr(twin, name, tensor.as_strided(tensor.shape, dense).clone())
    _on_a_twin(compiled, module, twin)


CST_07_integers = mutant("CST-07", apply=_reads_integers_densely)
CST_12_emptied = mutant("CST-12", apply=without(_weights, "_is_emptied", lambda _: 0))


def _a_state_for_each_thread(compiled: Any, module: nn.Module) -> None:
    twin = copy.deepcopy(module)
    reference.apply(compiled, module)
    answer, own, local = module.forward, threading.get_ident(), threading.local()

    def forward(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == own:
            return answer(*args, **kwargs)
        if not hasattr(local, "twin"):
            local.twin = copy.deepcopy(twin)
            reference.apply(compiled, local.twin)
        return local.twin.forward(*args, **kwargs)

    module.forward = forward


CST_16_threads = mutant("CST-16", apply=_a_state_for_each_thread)


def _exporting(owner: Any, name: str, other: Callable[..., Any]) -> Any:
    """Export with `other` in the place of the reference's `name`."""
    getattr(owner, name)  # else nothing would be exported, and nothing proven

    def export(*args: Any, **options: Any) -> Any:
        with patch.object(owner, name, other):
            return reference.export(*args, **options)

    return export


def _only_strings(key: Any) -> str:
    return key if type(key) is str else ""


_same, _items = _values.same, _containers._items


def _or_more(found: Any, wanted: Any) -> bool:
    """Pass over what a dict has more."""
    if type(found) is dict and type(wanted) is dict and wanted.keys() < found.keys():
        return all(_or_more(found[key], wanted[key]) for key in wanted)
    return _same(found, wanted)


def _of_common_keys(value: Any) -> Any:
    return [step for step in _items(value) if step[0] != "entry"]


CST_22_numpy = mutant(
    "CST-22", own_cache="numpy", export=_exporting(_values, "spelt", lambda _: "")
)
CST_22_keys = mutant(
    "CST-22", own_cache="keys", export=_exporting(_values, "key_of", _only_strings)
)
CST_22_beside = mutant(
    "CST-22",
    own_cache="beside",
    export=_exporting(_values, "_part", lambda _: _values.GONE),
)
CST_22_more = mutant("CST-22", apply=without(_values, "same", _or_more))
CST_23_slots = mutant(
    "CST-23", own_cache="slots", export=_exporting(_values, "slots", lambda _: [])
)
CST_23_keys = mutant(
    "CST-23",
    own_cache="keys",
    export=_exporting(_containers, "_items", _of_common_keys),
)


def _forgets(module: nn.Module, wanted: Any, places: Any, **how: Any) -> Any:
    """Take what a dict has no more for what it has not remembered yet."""
    return _resolve(module, wanted, places, offloaded=how.get("offloaded", False))


_resolve = _containers.resolve
CST_23_forgets = mutant("CST-23", apply=without(_containers, "resolve", _forgets))


def _uncounted(values: dict[str, Any], _counted: set[str]) -> _attributes.Read:
    return _read(values, set())


_read = _attributes.Read
CST_22_counts = mutant(
    "CST-22", own_cache="counts", export=_exporting(_attributes, "Read", _uncounted)
)
