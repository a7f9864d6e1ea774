"""Record how the repeated blocks of a module are called, in one pass of a pipeline."""

from __future__ import annotations

import functools
import inspect
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _blocks
from aoti_ref._call import Call, snapshot, spell_value
from aoti_ref._capture import interpreted
from aoti_ref._errors import NeverCalled
from aoti_ref._hooks import inner_method
from aoti_ref._weights import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

Form = tuple[Any, ...]  # what a call is beside the values of its tensors


class RegionCalls:
    """How blocks were called: their forms, and one call as the example of each.

    Args:
        wanted: The names that chose the blocks; None if nobody did.
        blocks: Their own names.
    """

    def __init__(self, wanted: tuple[str, ...] | None, blocks: Sequence[str]) -> None:
        self.wanted = wanted
        self.forms: dict[str, list[Form]] = {name: [] for name in blocks}
        self.examples: dict[Form, Call] = {}

    def __repr__(self) -> str:
        called = sum(bool(forms) for forms in self.forms.values())
        what = f"{called} of {len(self.forms)} blocks, {len(self.examples)} forms"
        return f"RegionCalls({what})"

    def calls(self, block: str) -> list[Call]:
        """Give an example for every form in which a block was called."""
        return [self.examples[form] for form in self.forms[block]]

    def note(
        self,
        block: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        """Note a call that is about to be made; only one of a new form is copied."""
        form = form_of(function, args, kwargs)
        if form is None:
            return
        if form not in self.examples:
            self.examples[form] = snapshot(args, kwargs)
        if form not in self.forms[block]:
            self.forms[block].append(form)


@contextmanager
def capture_regions(
    module: nn.Module, blocks: Sequence[str | type[nn.Module]] | None = None
) -> Iterator[RegionCalls]:
    """Record how the repeated blocks of `module` are called, and make the calls.

    It costs a whole run, and memory for one call of each form: the blocks of a
    transformer that are called alike share an example.

    Args:
        module: The module with the blocks. It is left as it was found.
        blocks: Classes or their names, or dotted names of blocks or of the list
            that holds them. Without, diffusers' `_repeated_blocks`, or else the
            members of lists in which a class stands more than once.

    Yields:
        The record, for `compile_regions`.

    Raises:
        NoBlocks: A name matches no block, or there are no repeated ones.
        NeverCalled: No block was called.
        HookedModule: Hooks hide the forward of a block from view.
    """
    wanted = _blocks.spelled(blocks)
    found = _blocks.find(module, wanted)
    calls = RegionCalls(wanted, list(found))
    with ExitStack() as stack:
        stack.enter_context(interpreted(module))
        for name, block in found.items():
            inner = inner_method(block, "forward")
            recorder = _recorder(calls, name, getattr(block, inner))
            stack.enter_context(interpreted(block))
            stack.enter_context(patch.object(block, inner, recorder))
        yield calls
    if not calls.examples:
        raise NeverCalled(type(module).__name__, "forward", tuple(found))


def _recorder(
    calls: RegionCalls, name: str, original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def record(*args: Any, **kwargs: Any) -> Any:
        calls.note(name, original, args, kwargs)
        return original(*args, **kwargs)

    return record


def form_of(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Form | None:
    """Tell the form of a call, however its arguments are spelt.

    Returns:
        None where the arguments do not fit the function.
    """
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    leaves, spec = pytree.tree_flatten(dict(bound.arguments))
    return str(spec), *map(leaf_of, leaves)


def leaf_of(leaf: Any) -> tuple[Any, ...]:
    """Tell what a graph takes for granted of a leaf: not the values of a tensor."""
    if isinstance(leaf, torch.Tensor):
        kind = "Tensor" if type(leaf) in PLAIN else type(leaf).__name__
        return kind, str(leaf.dtype), leaf.device.type, tuple(leaf.shape)
    return type(leaf).__name__, spell_value(leaf)
