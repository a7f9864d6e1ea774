"""Ways to break an apply: change its answers, its weights, or the module's looks."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from conformance.adapters import reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


def altered(change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply as the reference does, then pass every tensor of a result to `change`."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, module)
        answer = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            return pytree.tree_map_only(torch.Tensor, change, answer(*args, **kwargs))

        module.forward = forward

    return apply


def afterwards(change: Callable[[nn.Module], None]) -> Any:
    """Apply as the reference does, then do something to the module."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, module)
        change(module)

    return apply


def on_a_copy(prepare: Callable[[nn.Module], None]) -> Any:
    """Apply to a copy of the module, with weights that `prepare` has changed."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, copy.deepcopy(module))  # refuse what it refuses
        stale = copy.deepcopy(module)
        prepare(stale)
        reference.apply(compiled, stale)
        module.forward = Held(stale)

    return apply


def shared_twin(module: nn.Module) -> nn.Module:
    """Copy a module without its tensors, which both have from then on."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def on_a_shared_twin(compiled: Any, module: nn.Module) -> None:
    """Apply so that changes in place are seen, and no others."""
    twin = shared_twin(module)
    reference.apply(compiled, twin)
    module.forward = Held(twin)


def on_a_twin_then(change: Callable[[nn.Module], None]) -> Any:
    """Apply to a copy of the module, then do something to the module."""

    def apply(compiled: Any, module: nn.Module) -> None:
        twin = copy.deepcopy(module)
        reference.apply(compiled, twin)
        module.forward = Held(twin)
        change(module)

    return apply


class Held:
    """A forward that belongs to another module, which it keeps."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.__signature__ = inspect.signature(module.forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module.forward(*args, **kwargs)


def as_it_was(module: nn.Module) -> None:
    """Change nothing: what is copied is stale from now on."""
    module.eval()
