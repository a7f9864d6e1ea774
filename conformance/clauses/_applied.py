"""What the clauses of chapter APP share: misfits, changes, hooks, and their judges.

The branches between "answered" and "refused" stand here, and not in the tests.
"""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module

from conformance import models
from conformance.models import applying
from conformance.workbench import assert_answers, attempt, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.workbench import Pair

# Where eager code stumbles, as against code that says no on purpose.
_EAGER = tuple(str(Path(package.__path__[0])) for package in (torch, models))


class Counting(ModelHook):  # type: ignore[misc]  # accelerate is untyped
    """Doubles what comes in and adds one to what goes out, and counts both."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = {"before": 0, "after": 0}

    def pre_forward(self, _module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.counts["before"] += 1
        return tuple(arg * 2 for arg in args), kwargs

    def post_forward(self, _module: nn.Module, output: Any) -> Any:
        self.counts["after"] += 1
        return output + 1


def offloading_hook_on_a_child(module: applying.Kinds) -> None:
    add_hook_to_module(module.first, Counting())


def unless_refused(function: Callable[[], Any]) -> list[Any]:
    """Give what `function` returns, alone in a list that is empty if it refuses."""
    __tracebackhide__ = True
    ended = attempt(function)
    if ended.error is None:
        return [ended.value]
    if not is_refusal(ended.error):
        raise ended.error
    return []


def assert_eager_or_clear(twins: Pair, answer: Callable[[], Any], call: Any) -> None:
    """Assert that `answer` is that to `call`, or an error that eager did not make."""
    __tracebackhide__ = True
    with torch.no_grad():
        ended = attempt(answer)
    if ended.error is None:
        assert_answers(ended.value, twins.eager, call)
        return
    where = traceback.extract_tb(ended.error.__traceback__)[-1].filename
    assert not where.startswith(_EAGER), (
        f"{type(twins.applied).__name__} is a riddle now: {ended.error!r}"
    )


def assert_drops_or_refuses(make: Callable[[], nn.Module]) -> None:
    """Assert that a Noisy drops about half of its input, or that something refuses."""
    __tracebackhide__ = True
    x = applying.kinds_call().args[0]
    for answers in unless_refused(lambda: [made(x) for made in [make()] * 16]):
        share = (torch.stack(answers) == 0).float().mean().item()
        assert 0.2 < share < 0.8, f"{share:.0%} are dropped, eager drops half"


def identities(module: nn.Module) -> dict[str, Any]:
    """List the tensors of a module by identity, address, dtype, shape and value."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {
        n: (id(t), t.data_ptr(), t.dtype, t.shape, t.is_meta or t.tolist())
        for n, t in named
    }


def attributes(module: nn.Module) -> dict[str, list[str]]:
    """List the attributes of a module and its children, by name."""
    return {name: sorted(vars(child)) for name, child in module.named_modules()}


def roles(module: nn.Module) -> dict[str, Any]:
    """List what each tensor is to its module."""
    stored = set(module.state_dict())
    parameters = module.named_parameters(remove_duplicate=False)
    buffers = module.named_buffers(remove_duplicate=False)
    found: dict[str, Any] = {
        name: ("parameter", type(p).__name__, p.requires_grad, p.dtype, tuple(p.shape))
        for name, p in parameters
    }
    return found | {n: ("buffer", n in stored, b.dtype) for n, b in buffers}


def parameters(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Read the parameters of `forward`, as a pipeline does."""
    found = inspect.signature(module.forward).parameters
    return {name: (each.default, each.kind) for name, each in found.items()}
