"""Chapter CAP: a capture of every call owes what a capture of one call owes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from conformance.adapter import Refused
from conformance.clauses._captures import BLOCKS, Mishap, traces
from conformance.models.blocks import normal, seeded
from conformance.models.capture import Tripwire
from conformance.spec import clause

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import CapturesCalls


@clause("CAP-14")
@pytest.mark.parametrize("block", BLOCKS)
def test_recording_leaves_the_module_as_it_was_found(
    impl: CapturesCalls, block: Callable[[nn.Module], None]
) -> None:
    module = Tripwire().eval()
    module.register_forward_hook(lambda *_: None)
    before = traces(module)

    try:
        with impl.capture_calls(module):
            block(module)
    except (LookupError, Mishap, Refused):
        pass

    assert traces(module) | {"ran": 0} == before | {"ran": 0}
    assert torch.equal(module(torch.ones(2)), torch.full((2,), 2.0))


@clause("CAP-14")
def test_a_call_that_fails_while_it_is_recorded_fails_as_it_would(
    impl: CapturesCalls,
) -> None:
    module = Tripwire()
    with pytest.raises(TypeError) as outside:
        module(torch.ones(1), scale="large")

    with pytest.raises(TypeError) as within, impl.capture_calls(module):
        module(torch.ones(1), scale="large")

    assert str(within.value) == str(outside.value)


@clause("CAP-14")
def test_recorded_calls_are_what_forward_gets_after_hooks(impl: CapturesCalls) -> None:
    module = Tripwire()

    def widen(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        return (args[0].double(),), {**kwargs, "extra": "added"}

    module.register_forward_pre_hook(widen, with_kwargs=True)

    with impl.capture_calls(module) as records:
        module(torch.ones(3), scale=1.0)

    (record,) = records
    assert record.args[0].dtype == torch.float64
    assert dict(record.kwargs) == {"scale": 1.0, "extra": "added"}


@clause("CAP-14")
def test_the_signature_stays_in_view_of_calls_that_are_recorded(
    impl: CapturesCalls,
) -> None:
    module = Tripwire()
    outside = inspect.signature(module.forward)

    with impl.capture_calls(module):
        seen = inspect.signature(module.forward)
        module(torch.ones(1))

    assert seen == outside


@clause("CAP-14")
def test_the_arguments_of_each_call_are_recorded_as_they_were(
    impl: CapturesCalls,
) -> None:
    module = Tripwire()
    x = torch.arange(6.0).view(3, 2).t().requires_grad_()

    with impl.capture_calls(module) as records, torch.no_grad():
        module(torch.ones(2))
        module(x, extra=[x, x.clone()])

    first, second = records[1].kwargs["extra"]
    assert torch.equal(records[1].args[0], x)
    assert records[1].args[0].stride() == x.stride()
    assert records[1].args[0].requires_grad
    assert first is records[1].args[0]
    assert second is not first


@clause("CAP-14")
def test_recorded_calls_outlive_inference_mode(impl: CapturesCalls) -> None:
    module = seeded(lambda: nn.Linear(4, 4)).requires_grad_()

    with torch.inference_mode(), impl.capture_calls(module) as records:
        module(normal(1, 4))
        module(normal(2, 4))
    module(*records[1].args).sum().backward()

    assert all(weight.grad is not None for weight in module.parameters())
