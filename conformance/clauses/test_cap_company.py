"""Chapter CAP: hooks, other captures, modes and owners around a capture."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from torch import nn

from conformance import device
from conformance.clauses._captures import SETTINGS, modes, modes_put_back, records
from conformance.models.blocks import normal, seeded
from conformance.models.capture import Tripwire
from conformance.spec import clause

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter


@clause("CAP-08")
def test_the_record_is_what_forward_gets_after_hooks(impl: Adapter) -> None:
    module = Tripwire()

    def widen(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        return (args[0].double(),), {**kwargs, "extra": "added"}

    module.register_forward_pre_hook(widen, with_kwargs=True)

    with impl.capture(module) as record:
        module(torch.ones(3), scale=1.0)

    assert record.args[0].dtype == torch.float64
    assert dict(record.kwargs) == {"scale": 1.0, "extra": "added"}
    assert module(torch.ones(3)).dtype == torch.float64


class Widening(ModelHook):  # type: ignore[misc]  # accelerate is untyped
    """Changes what comes in, and counts what went through."""

    def __init__(self) -> None:
        super().__init__()
        self.before = 0

    def pre_forward(self, _module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.before += 1
        return tuple(arg.double() for arg in args), kwargs


@clause("CAP-09")
def test_offloading_hooks_are_seen_through_or_refused(impl: Adapter) -> None:
    module, hook = Tripwire(), Widening()
    add_hook_to_module(module, hook)

    for record in records(impl, module, lambda: module(torch.ones(2))):
        assert record.args[0].dtype == torch.float64
    seen = hook.before

    assert module(torch.ones(2)).dtype == torch.float64
    assert hook.before == seen + 1
    remove_hook_from_module(module)
    assert module(torch.ones(2)).dtype == torch.float32


@clause("CAP-09")
def test_weights_that_are_offloaded_stay_offloaded(impl: Adapter) -> None:
    module = seeded(lambda: nn.Linear(4, 4))
    eager, x = copy.deepcopy(module), normal(2, 4)
    cpu_offload(module, execution_device=torch.device(device.chosen()))

    for record in records(impl, module, lambda: module(x)):
        assert torch.equal(record.args[0], x)

    assert all(weight.is_meta for weight in module.parameters())
    assert torch.equal(module(x), eager(x))


@clause("CAP-13")
def test_captures_nest(impl: Adapter) -> None:
    inner, outer = Tripwire(), Tripwire()
    reached = []

    with impl.capture(outer) as record:
        with impl.capture(inner) as within:
            inner(torch.zeros(1))
            reached.append("after the inner call")
        reached.append("after the inner block")
        outer(torch.ones(2))
        reached.append("after the outer call")

    assert reached == ["after the inner block"]
    assert within.args[0].shape == (1,)
    assert record.args[0].shape == (2,)


@clause("CAP-13")
def test_an_outer_capture_ends_both_blocks(impl: Adapter) -> None:
    inner, outer = Tripwire(), Tripwire()
    reached = []

    with impl.capture(outer) as record:
        with impl.capture(inner):
            outer(torch.ones(2))
            reached.append("after the outer call")
        reached.append("after the inner block")

    assert reached == []
    assert record.args[0].shape == (2,)
    assert "forward" not in vars(inner)
    assert "forward" not in vars(outer)


@clause("CAP-17")
@pytest.mark.parametrize("enabled", [True, False])
def test_modes_are_left_alone(impl: Adapter, *, enabled: bool) -> None:
    module = Tripwire()
    x = torch.ones(2, requires_grad=True)

    with torch.set_grad_enabled(enabled):
        with impl.capture(module) as record, torch.no_grad():
            module(x)
        after = torch.is_grad_enabled()

    assert after is enabled
    assert record.args[0].requires_grad
    assert torch.get_default_dtype() == torch.float32
    assert not torch.is_autocast_enabled("cpu")


@clause("CAP-17")
def test_autocast_ends_with_its_own_block(impl: Adapter) -> None:
    module = Tripwire()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        with impl.capture(module) as record:
            module(torch.ones(2))
        within = torch.is_autocast_enabled("cpu")

    assert within
    assert not torch.is_autocast_enabled("cpu")
    assert record.args[0].dtype == torch.float32


@clause("CAP-17")
@pytest.mark.parametrize("setting", SETTINGS)
def test_modes_that_a_block_sets_before_its_call_are_put_back(
    impl: Adapter, setting: Callable[[], None]
) -> None:
    module, before = Tripwire(), modes()

    with modes_put_back():
        with impl.capture(module):
            setting()  # and what would undo it comes after the call
            module(torch.ones(2))
        after = modes()

    assert after == before


@clause("CAP-18")
def test_a_capture_holds_on_to_nothing_of_the_module(impl: Adapter) -> None:
    module = Tripwire()
    weight = weakref.ref(module.proj.weight)

    with impl.capture(module) as record:
        module(torch.ones(1))
    kept = list(record.args)
    del module, record
    gc.collect()

    assert weight() is None
    assert len(kept) == 1


@clause("CAP-19")
def test_a_record_outlives_inference_mode(impl: Adapter) -> None:
    module = seeded(lambda: nn.Linear(4, 4)).requires_grad_()

    with torch.inference_mode(), impl.capture(module) as record:
        module(normal(2, 4))
    module(*record.args).sum().backward()

    assert torch.equal(record.args[0], normal(2, 4))
    assert all(weight.grad is not None for weight in module.parameters())
