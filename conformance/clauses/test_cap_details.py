"""Chapter CAP: what is easily overlooked in a call, and in the block around it."""

from __future__ import annotations

import enum
import functools
import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import tqdm
from torch import nn

from conformance.clauses._captures import ending, fails, traces
from conformance.models.blocks import normal, seeded
from conformance.models.capture import Tripwire
from conformance.spec import clause

if TYPE_CHECKING:
    from conformance.adapter import Adapter, CapturesCalls

# What a step writes into beside its latents: its number, its mask, a single number.
WRITTEN = {
    "0-d": lambda: torch.tensor(3.0),
    "integer": lambda: torch.tensor([3, 4]),
    "boolean": lambda: torch.tensor([True, True]),
}


@clause("CAP-03")
@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("by_name", [False, True], ids=["position", "name"])
def test_tensors_of_every_kind_are_copies(
    impl: Adapter, kind: str, *, by_name: bool
) -> None:
    module, given = Tripwire(), WRITTEN[kind]()

    with impl.capture(module) as record:
        module(extra=given, x=torch.ones(1)) if by_name else module(given)
    given.zero_()

    held = record.kwargs["extra"] if by_name else record.args[0]
    assert torch.equal(held, WRITTEN[kind]()), "the record was written to"


class Level(enum.IntEnum):
    """What is a number and more than one."""

    LOW = 1


@clause("CAP-04")
@pytest.mark.parametrize("value", [np.float64(0.5), Level.LOW, True], ids=repr)
def test_what_is_derived_from_a_number_stays_what_it_is(
    impl: Adapter, value: Any
) -> None:
    module = Tripwire()

    with impl.capture(module) as record:
        module(torch.ones(1), value)

    assert type(record.args[1]) is type(value)
    assert record.args[1] == value


@clause("CAP-04")
@pytest.mark.parametrize("order", [(0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)])
def test_tensors_of_four_dimensions_keep_their_strides(
    impl: Adapter, order: tuple[int, ...]
) -> None:
    module, x = Tripwire(), normal(2, 3, 4, 5).permute(order)

    with impl.capture(module) as record:
        module(x)

    assert record.args[0].stride() == x.stride()
    assert torch.equal(record.args[0], x)


@clause("CAP-06")
def test_another_method_of_the_instance_stays_there(impl: Adapter) -> None:
    module = Tripwire().eval()
    own = functools.partial(Tripwire.decode, module)
    module.decode = own  # type: ignore[method-assign]

    with impl.capture(module, "decode"):
        module.decode(torch.ones(1))

    assert module.decode is own


class Crooked(Exception):
    """Raised by a hook of the user's."""


@clause("CAP-07")
@pytest.mark.parametrize("method", ["forward", "decode"])
def test_an_exception_amid_a_call_passes_through(impl: Adapter, method: str) -> None:
    module, error = Tripwire(), Crooked("mine")
    before = traces(module)

    def raises(*_: Any) -> None:
        raise error

    handle = module.register_forward_pre_hook(raises)
    with pytest.raises(Crooked) as caught, impl.capture(module, method):
        module(torch.ones(1))
    handle.remove()

    assert caught.value is error
    assert traces(module) == before


@clause("CAP-08")
def test_all_hooks_have_their_say_in_order(impl: Adapter) -> None:
    module = Tripwire()
    module.register_forward_pre_hook(lambda _, args: args[0] + 1)
    module.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    module.register_forward_pre_hook(lambda _, args: (args[0] - 3,), prepend=True)

    with impl.capture(module) as record:
        module(torch.zeros(2), scale=1.0)

    assert record.args[0].tolist() == [-4, -4]
    assert dict(record.kwargs) == {"scale": 1.0}


@clause("CAP-12")
def test_bars_within_bars_are_closed(impl: Adapter) -> None:
    module = Tripwire()
    kept: list[Any] = []
    open_before = len(tqdm.tqdm._instances)

    with impl.capture(module):
        kept.extend(tqdm.tqdm(total=3, disable=False) for _ in range(3))
        module(torch.ones(1))

    assert len(tqdm.tqdm._instances) == open_before


@clause("CAP-12")
def test_bars_of_a_block_that_fails_are_closed(impl: Adapter) -> None:
    kept: list[Any] = []
    open_before = len(tqdm.tqdm._instances)

    def opens_and_fails(module: nn.Module) -> None:
        kept.append(tqdm.tqdm(total=3, disable=False))
        fails(module)

    assert ending(impl, Tripwire(), opens_and_fails) == "LookupError"
    assert len(tqdm.tqdm._instances) == open_before


@clause("CAP-13")
def test_captures_of_one_module_nest(impl: Adapter) -> None:
    module, reached = Tripwire(), []

    with impl.capture(module) as outer:
        with impl.capture(module) as inner:
            module(torch.zeros(1))
            reached.append("after the inner call")
        module(torch.ones(2))
        reached.append("after the outer call")

    assert reached == []
    assert (inner.args[0].shape, outer.args[0].shape) == ((1,), (2,))
    assert "forward" not in vars(module)


class Rising(nn.Module):
    """It writes into its argument."""

    def forward(self, x: torch.Tensor, step: Any = None) -> torch.Tensor:
        return x.add_(1) if step is None else x.add_(step)


@clause("CAP-14")
def test_calls_are_recorded_as_they_were_before_they_were_made(
    impl: CapturesCalls,
) -> None:
    module, x = Rising(), torch.zeros(2)

    with impl.capture_calls(module) as records:
        for _ in range(3):
            module(x)

    assert [record.args[0].tolist() for record in records] == [[n, n] for n in range(3)]


@clause("CAP-14")
def test_equal_calls_are_as_many_as_were_made(impl: CapturesCalls) -> None:
    module, x = Tripwire(), torch.ones(2)

    with impl.capture_calls(module) as records:
        for _ in range(60):
            module(x, scale=0.5)

    assert len(records) == module.ran == 60
    assert all(torch.equal(record.args[0], x) for record in records)


@clause("CAP-14")
@pytest.mark.parametrize("kind", WRITTEN)
def test_recorded_tensors_of_every_kind_are_copies(
    impl: CapturesCalls, kind: str
) -> None:
    module, given = Tripwire(), WRITTEN[kind]()

    with impl.capture_calls(module) as records:
        module(given, extra=given.clone())
        module(given.clone(), extra=given)
    given.zero_()

    wanted = WRITTEN[kind]()
    for record in records:
        assert torch.equal(record.args[0], wanted), "the record was written to"
        assert torch.equal(record.kwargs["extra"], wanted), "the record was written to"


@clause("CAP-16")
def test_the_keywords_of_another_method_are_captured(impl: Adapter) -> None:
    module = Tripwire()

    with impl.capture(module, "decode") as record:
        module.decode(z=torch.full((2,), 3.0))

    assert tuple(record.args) == ()
    assert list(record.kwargs) == ["z"]
    assert record.kwargs["z"].tolist() == [3, 3]


@clause("CAP-17")
def test_tensors_that_want_gradients_want_them_wherever_they_stand(
    impl: Adapter,
) -> None:
    module, wanting = Tripwire(), [torch.ones(2).requires_grad_() for _ in range(3)]

    with impl.capture(module) as record:
        module(wanting[0], wanting[1], extra={"deep": [wanting[2], torch.ones(1)]})

    deep = record.kwargs["extra"]["deep"]
    found = [*record.args, *deep]
    assert [tensor.requires_grad for tensor in found] == [True, True, True, False]


@clause("CAP-18")
def test_a_capture_that_failed_holds_on_to_nothing_of_the_module(impl: Adapter) -> None:
    module = Tripwire()
    weight = weakref.ref(module.proj.weight)

    blocks: list[Any] = [fails, nn.Module.eval]
    endings = [ending(impl, module, block) for block in blocks]
    del module
    gc.collect()

    assert endings == ["LookupError", "refused"]
    assert weight() is None


@clause("CAP-19")
def test_keywords_of_a_record_outlive_inference_mode(impl: Adapter) -> None:
    module = seeded(lambda: nn.Linear(4, 4)).requires_grad_()

    with torch.inference_mode(), impl.capture(module) as record:
        module(input=normal(2, 4))
    module(**record.kwargs).sum().backward()

    assert torch.equal(record.kwargs["input"], normal(2, 4))
    assert all(weight.grad is not None for weight in module.parameters())
