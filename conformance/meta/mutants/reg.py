"""Mutants of the chapter REG: which graph a block gets, and whether it gets one."""

from __future__ import annotations

import copy
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.utils import _pytree as pytree

import aoti_ref
from aoti_ref import _archive
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import Held
from conformance.meta.mutants._blocks import (
    PLAIN,
    TURNED,
    answering,
    eager,
    silently,
    then,
    together,
    unless,
    with_weights_of,
)
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs


def _drifts(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    result = answer(*args, **kwargs)
    return pytree.tree_map_only(torch.Tensor, lambda x: x + 1e-2, result)


REG_01_keyword = mutant("REG-01", apply=answering(("plain.2",), _drifts))
REG_01_position = mutant("REG-01", apply=answering(("turned.1",), _drifts))


def _on_a_copy(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, copy.deepcopy(module))


REG_02_last = mutant("REG-02", apply=then(("plain.2",), eager))
REG_02_all = mutant("REG-02", apply=_on_a_copy)


def _all_of_one(which: int) -> Callable[[list[nn.Module]], None]:
    def change(blocks: list[nn.Module]) -> None:
        one = blocks[which].forward
        for block in blocks:
            block.forward = one

    return change


def _exchanged(blocks: list[nn.Module]) -> None:
    first, second = blocks[0].forward, blocks[1].forward
    blocks[0].forward, blocks[1].forward = second, first


def _buffers_of_first(blocks: list[nn.Module]) -> None:
    twin = copy.deepcopy(blocks[-1])
    twin.shift = blocks[0].shift
    blocks[-1].forward = Held(twin)


REG_03_first = mutant("REG-03", apply=together(PLAIN, _all_of_one(0)))
REG_03_last = mutant("REG-03", apply=together(TURNED, _all_of_one(-1)))
REG_03_exchanged = mutant("REG-03", apply=together(PLAIN, _exchanged))
REG_03_buffers = mutant("REG-03", apply=together(PLAIN, _buffers_of_first))

_copies = count()


def _a_library_of_its_own(block: nn.Module) -> None:
    applied: Any = block.forward
    members = list(_archive.read(applied.compiled.package.archive, "copy").items())
    at = next(_copies) % len(members)
    turned = dict([*members[at:], *members[:at]])
    copied = _archive.write(turned, compress=False)
    aoti_ref.apply(aoti_ref.CompiledModel(copied), block)


REG_04 = mutant("REG-04", apply=then(TURNED + PLAIN, _a_library_of_its_own))


def _cut_to_fit(blocks: list[nn.Module]) -> None:
    graph, *others = blocks

    def cut(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([graph.forward(x[..., :8].contiguous()), x[..., 8:]], -1)

    for block in others:
        block.forward = cut


REG_05 = mutant("REG-05", apply=together(("even.0", "wide.0", "wide.1"), _cut_to_fit))


def _by_class(blocks: list[nn.Module]) -> None:
    graph, *others = blocks
    for block in others:
        block.forward = Held(with_weights_of(graph, block))


REG_01_function = mutant("REG-01", apply=together(("cells.0", "cells.1"), _by_class))
REG_06 = mutant("REG-06", apply=together(("even.0", "even.1", "even.2"), _by_class))


def _without_mask(blocks: list[nn.Module]) -> None:
    graph, masked = blocks
    twin = with_weights_of(graph, masked)
    masked.forward = lambda hidden_states, mask=None: twin.forward(hidden_states)  # noqa: ARG005


def _deaf_to_masks(answer: Answer, args: Args, _kwargs: Kwargs) -> Any:
    return answer(*args)


REG_07_without = mutant("REG-07", apply=together(("even.0", "masked"), _without_mask))
REG_07_deaf = mutant("REG-07", apply=answering(("even.0",), _deaf_to_masks))

REG_08_repeated = mutant(
    "REG-08", compile_regions=unless("no repeated"), apply=silently
)
REG_08_names = mutant("REG-08", compile_regions=unless("no block"), apply=silently)


def _inlined(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    for cell in getattr(module, "cells", []):
        if "forward" not in vars(cell):
            cell.forward = lambda x, cell=cell: (
                x
                + functional.leaky_relu(
                    x @ cell.proj.weight.T + cell.proj.bias, cell.slope
                )
            )


REG_09_others = mutant("REG-09", apply=_inlined)
REG_09_none = mutant("REG-09", apply=then(("cells.0", "cells.1"), eager))


def _in_other_words(*args: Any, **kwargs: Any) -> Any:
    try:
        return reference.compile_regions(*args, **kwargs)
    except Refused as error:
        raise Refused("a block cannot be compiled") from error


REG_10_nameless = mutant("REG-10", compile_regions=_in_other_words)
REG_10_silent = mutant("REG-10", compile_regions=unless("exported"), apply=silently)

REG_11_untold = mutant("REG-11", eager_blocks=lambda _compiled: [])
REG_11_all = mutant("REG-11", apply=_on_a_copy)

REG_12_silent = mutant("REG-12", compile_regions=unless("called"), apply=silently)


def _of_no_call(module: nn.Module, run: Callable[[], Any], **options: Any) -> Any:
    try:
        return reference.compile_regions(module, run, **options)
    except Refused as error:
        if "called none of" in str(error):
            raise Refused("no block was called") from error
        raise


REG_12_none = mutant("REG-12", compile_regions=_of_no_call)
REG_12_nameless = mutant("REG-12", compile_regions=_in_other_words)


def _leaves_recorders(module: nn.Module, run: Any, **kwargs: Any) -> Any:
    try:
        return reference.compile_regions(module, run, **kwargs)
    except BaseException:
        block = module.get_submodule("plain.0")
        block.forward = type(block).forward.__get__(block)
        raise


def _goes_on(module: nn.Module, run: Any, **kwargs: Any) -> Any:
    def whatever() -> None:
        try:
            run()
        except Exception as error:
            raise Refused("the run failed") from error

    return reference.compile_regions(module, whatever, **kwargs)


REG_13_leaves = mutant("REG-13", compile_regions=_leaves_recorders)
REG_13_wordless = mutant("REG-13", compile_regions=_goes_on)


def _keeps_every_call(module: nn.Module, run: Any, **kwargs: Any) -> Any:
    kept: list[torch.Tensor] = []

    def keep(_block: nn.Module, args: Any) -> None:
        kept.extend(arg.clone() for arg in args)

    for block in module.get_submodule("cells").children():
        block.register_forward_pre_hook(keep)
    return reference.compile_regions(module, run, **kwargs)


REG_14 = mutant("REG-14", compile_regions=_keeps_every_call)


def _leaks(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    """Mix channels a little: layer norms take a shift of them all away."""
    result = answer(*args, **kwargs)
    return pytree.tree_map_only(
        torch.Tensor, lambda x: x + 0.02 * x.roll(1, -1), result
    )


_FLUX = ("transformer_blocks.0", "single_transformer_blocks.0")
REG_30_drift = mutant("REG-30", apply=answering(_FLUX, _leaks))
REG_30_eager = mutant("REG-30", apply=then(_FLUX[1:], eager))


def _tables_of_first(blocks: list[nn.Module]) -> None:
    twin = copy.deepcopy(blocks[1])
    twin.table = blocks[0].table
    blocks[1].forward = Held(twin)


REG_31 = mutant("REG-31", apply=together(("cells.0", "cells.1"), _tables_of_first))
