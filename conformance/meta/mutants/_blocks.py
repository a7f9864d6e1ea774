"""Ways to break blocks: change what some of them answer, or exchange their graphs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import Held, shared_twin

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.meta.mutants._around import Change

TURNED = tuple(f"turned.{index}" for index in range(4))
PLAIN = tuple(f"plain.{index}" for index in range(3))


class Nothing:
    """What a layer returns that has compiled nothing, and says nothing."""


def silently(compiled: Any, module: nn.Module) -> None:
    """Apply as the reference does, and nothing where there is nothing."""
    if not isinstance(compiled, Nothing):
        reference.apply(compiled, module)


def found(module: nn.Module, names: tuple[str, ...]) -> list[nn.Module]:
    """Give the parts of a module that are there and run a graph, by name."""
    below = dict(module.named_modules())
    return [below[n] for n in names if n in below and "forward" in vars(below[n])]


def then(names: tuple[str, ...], change: Callable[[nn.Module], None]) -> Any:
    """Apply as the reference does, then do something to some blocks."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, module)
        for block in found(module, names):
            change(block)

    return apply


def answering(names: tuple[str, ...], change: Change) -> Any:
    """Apply as the reference does, then let `change` make every call of some blocks."""

    def replace(block: nn.Module) -> None:
        answer = block.forward
        block.forward = lambda *args, **kwargs: change(answer, args, kwargs)

    return then(names, replace)


def together(names: tuple[str, ...], change: Callable[[list[nn.Module]], None]) -> Any:
    """Apply as the reference does, then do something to some blocks together."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, module)
        blocks = found(module, names)
        if blocks:
            change(blocks)

    return apply


def eager(block: nn.Module) -> None:
    """Take the graph off."""
    del block.forward


def stale(block: nn.Module) -> None:
    """Answer from a copy of the block."""
    block.forward = Held(copy.deepcopy(block))


def half_stale(block: nn.Module) -> None:
    """Answer from a copy of the block that has the same tensors."""
    block.forward = Held(shared_twin(block))


def with_weights_of(graph: nn.Module, block: nn.Module) -> nn.Module:
    """Copy a block that runs a graph, and give the copy the layer of another."""
    twin = copy.deepcopy(graph)
    layer: Any = twin.get_submodule("proj")
    layer.weight = block.get_parameter("proj.weight")
    layer.bias = block.get_parameter("proj.bias")
    return twin


def unless(reason: str) -> Any:
    """Compile as the reference does, and make nothing of refusals with a reason."""

    def compile_regions(*args: Any, **kwargs: Any) -> Any:
        try:
            return reference.compile_regions(*args, **kwargs)
        except Refused as error:
            if reason not in str(error):
                raise
            return Nothing()

    return compile_regions
