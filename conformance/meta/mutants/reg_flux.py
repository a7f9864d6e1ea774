"""Mutants of the chapter REG: a FLUX with LoRA, and with weights that come and go."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from accelerate.hooks import remove_hook_from_module
from diffusers.hooks import HookRegistry
from torch import nn

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import (
    Held,
    as_it_was,
    on_a_copy,
    on_a_shared_twin,
)
from conformance.meta.mutants._blocks import answering, half_stale, stale, then
from conformance.meta.mutants._make import mutant
from conformance.models.lora import LoraLinear

if TYPE_CHECKING:
    from conformance.meta.mutants._around import Answer, Args, Kwargs

_BLOCKS = tuple(
    f"{kind}.{index}"
    for kind in ("transformer_blocks", "single_transformer_blocks")
    for index in range(3)
)


def _on_its_storage(module: nn.Module) -> None:
    """Answer from parameters of its own over the storages that are there now."""
    twin = copy.deepcopy(
        module,
        {id(p): nn.Parameter(p.data, requires_grad=False) for p in module.parameters()},
    )
    module.forward = Held(twin)


def _whole_on_its_storage(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    _on_its_storage(module)


REG_34_deaf = mutant("REG-34", apply=then(_BLOCKS, stale))
REG_34_storage = mutant("REG-34", apply=then(_BLOCKS, _on_its_storage))
REG_35_deaf = mutant("REG-35", apply=on_a_copy(as_it_was))
REG_35_storage = mutant("REG-35", apply=_whole_on_its_storage)


def _nameless(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except Exception as error:
        message = "something does not fit"
        raise RuntimeError(message) from error


def _in_other_words(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused as error:
        raise Refused("something does not fit") from error


def _through_the_layers(compiled: Any, module: nn.Module) -> None:
    """Take LoRA layers for what they stand on."""
    layers = [(n, p) for n, p in module.named_modules() if isinstance(p, LoraLinear)]
    for name, layer in layers:
        owner, _, key = name.rpartition(".")
        setattr(module.get_submodule(owner), key, layer.base_layer)
    reference.apply(compiled, module)
    for part in [module, *(module.get_submodule(name) for name in _BLOCKS)]:
        if "forward" in vars(part):
            half_stale(part)
    for name, layer in layers:
        owner, _, key = name.rpartition(".")
        setattr(module.get_submodule(owner), key, layer)


REG_36_ignores = mutant("REG-36", apply=then(_BLOCKS, half_stale))
REG_36_before = mutant("REG-36", apply=_through_the_layers)
REG_36_nameless = mutant("REG-36", apply=answering(_BLOCKS, _nameless))
REG_37_ignores = mutant("REG-37", apply=on_a_shared_twin)
REG_37_before = mutant("REG-37", apply=_through_the_layers)
REG_37_nameless = mutant("REG-37", apply=_in_other_words)


def _takes_the_hook_off(compiled: Any, module: nn.Module) -> None:
    remove_hook_from_module(module)
    reference.apply(compiled, module)


def _mixes(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Mix channels a little: layer norms take a shift of them all away."""
    first, *others = answer(*args, **kwargs)
    return (first + 0.02 * first.roll(1, -1), *others)


REG_38_hook = mutant("REG-38", apply=_takes_the_hook_off)
REG_38_mixes = mutant("REG-38", apply=answering(_BLOCKS, _mixes))


def _takes_groups_off(compiled: Any, module: nn.Module) -> None:
    """Take the hooks of group offloading off, and leave the weights where they are."""
    HookRegistry.check_if_exists_or_initialize(module).remove_hook(
        "group_offloading", recurse=True
    )
    reference.apply(compiled, module)


def _never_looks(block: nn.Module) -> None:
    """Bind the weights where they are at the first call, and never look again."""
    applied: Any = block.forward
    bind = applied._bind

    def once(module: nn.Module) -> Any:
        binding = bind(module)
        binding.holds = lambda _module: True
        return binding

    applied._bind = once


REG_39_groups = mutant("REG-39", apply=_takes_groups_off)
REG_39_addresses = mutant("REG-39", apply=then(_BLOCKS, _never_looks))
REG_40_groups = mutant("REG-40", apply=_takes_groups_off)
REG_40_children = mutant("REG-40", apply=on_a_shared_twin)
