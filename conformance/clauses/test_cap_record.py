"""Chapter CAP: what a record holds."""

from __future__ import annotations

import inspect
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from conformance.adapter import Refused
from conformance.clauses._applied import unless_refused
from conformance.clauses._captures import first_latents, records
from conformance.models import calls
from conformance.models.capture import Pipeline, Tripwire, retrying, swallowing
from conformance.models.outputs import Output
from conformance.spec import clause
from conformance.workbench import refuses

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter, CapturesCalls

ROBUST = pytest.mark.parametrize("around", [swallowing, retrying])


@clause("CAP-01")
def test_capture_refuses_a_block_that_never_calls(impl: Adapter) -> None:
    module = Tripwire()

    with refuses() as refusal, impl.capture(module):
        module.decode(torch.zeros(1))

    assert "Tripwire" in str(refusal)


@clause("CAP-01")
def test_capture_refuses_an_empty_block(impl: Adapter) -> None:
    with refuses() as refusal, impl.capture(Tripwire()):
        pass

    assert "Tripwire" in str(refusal)


@clause("CAP-02")
@ROBUST
def test_a_swallowed_stop_is_no_empty_call(
    impl: Adapter, around: Callable[[Callable[[], torch.Tensor]], torch.Tensor]
) -> None:
    pipeline = Pipeline(Tripwire(), around)

    recorded = records(impl, pipeline.model, pipeline)

    for record in recorded:
        assert record.kwargs == {"scale": 0.5}
        assert torch.equal(record.args[0], first_latents())


@clause("CAP-03")
def test_what_the_pipeline_writes_later_leaves_the_record_alone(impl: Adapter) -> None:
    module, latents = Tripwire(), first_latents()
    nested = {"deep": [latents]}

    with impl.capture(module) as record:
        module(latents, extra=nested)
    latents.zero_()

    for held in (record.args[0], record.kwargs["extra"]["deep"][0]):
        assert torch.equal(held, first_latents()), "the record was written to"


@clause("CAP-03")
def test_a_pipeline_that_goes_on_leaves_the_record_alone(impl: Adapter) -> None:
    pipeline = Pipeline(Tripwire())

    with impl.capture(pipeline.model) as record:
        pipeline()
    pipeline()

    assert torch.equal(record.args[0], first_latents()), "the record was written to"


@clause("CAP-04")
@given(
    flag=st.booleans(),
    number=st.integers() | st.floats(allow_nan=False) | st.text() | st.none(),
    rows=st.integers(1, 5),
)
def test_the_record_is_the_call_as_it_was_made(
    impl: Adapter, *, flag: bool, number: Any, rows: int
) -> None:
    module = Tripwire()
    x = torch.arange(4.0 * rows).reshape(4, rows).t()
    half = torch.ones(rows, dtype=torch.bfloat16)

    with impl.capture(module) as record:
        module(x, number, extra={"list": [half, None, flag], "tuple": (x, "s")})

    assert len(record.args) == 2
    assert list(record.kwargs) == ["extra"]
    assert torch.equal(record.args[0], x)
    assert record.args[0].stride() == x.stride()
    assert type(record.args[1]) is type(number)
    assert record.args[1] == number
    extra = record.kwargs["extra"]
    assert list(extra) == ["list", "tuple"]
    assert extra["list"][0].dtype == torch.bfloat16
    assert extra["list"][1:] == [None, flag]
    assert type(extra["list"][2]) is bool
    assert isinstance(extra["tuple"], tuple)
    assert torch.equal(extra["tuple"][0], x)


@clause("CAP-04")
def test_keywords_stay_keywords(impl: Adapter) -> None:
    module = Tripwire()

    with impl.capture(module) as record:
        module(scale=1.0, x=torch.ones(1))

    assert tuple(record.args) == ()
    assert list(record.kwargs) == ["scale", "x"]


@clause("CAP-04")
def test_a_tensor_given_twice_is_one_tensor(impl: Adapter) -> None:
    module, x = Tripwire(), torch.ones(2)

    with impl.capture(module) as record:
        module(x, extra=[x, x.clone()])

    first, second = record.kwargs["extra"]
    assert first is record.args[0]
    assert second is not record.args[0]


def _named(x: torch.Tensor) -> Any:
    return calls.Size(x, x)


def _ordered(x: torch.Tensor) -> Any:
    return OrderedDict(second=x, first=[x])


def _defaulted(x: torch.Tensor) -> Any:
    return defaultdict(list, {"some": [x]})


def _registered(x: torch.Tensor) -> Any:
    return Output(x, 3)


@clause("CAP-04")
@pytest.mark.parametrize("contain", [_named, _ordered, _defaulted, _registered])
def test_containers_are_of_their_class(
    impl: Adapter, contain: Callable[[torch.Tensor], Any]
) -> None:
    module, x = Tripwire(), torch.ones(2)
    given = contain(x)

    with impl.capture(module) as record:
        module(x, extra={"deep": [(given,)]})
    ((found,),) = record.kwargs["extra"]["deep"]

    assert type(found) is type(given)
    assert pytree.tree_structure(found) == pytree.tree_structure(given)
    leaves = pytree.tree_leaves(found)
    assert all(x is record.args[0] for x in leaves if isinstance(x, torch.Tensor))


@clause("CAP-04")
@pytest.mark.parametrize(
    "value",
    [torch.float16, calls.Kind.BENT, slice(1, None), 2j, b"x", range(3), -0.0],
    ids=str,
)
def test_what_is_no_tensor_is_recorded_as_it_is(impl: Adapter, value: object) -> None:
    module = Tripwire()

    with impl.capture(module) as record:
        module(torch.ones(2), extra=[value])

    (found,) = record.kwargs["extra"]
    assert type(found) is type(value)
    assert repr(found) == repr(value)


@clause("CAP-14")
def test_every_call_is_recorded_and_made(impl: CapturesCalls) -> None:
    module = Tripwire()

    with impl.capture_calls(module) as records:
        first = module(torch.ones(1, 4))
        second = module(torch.ones(2, 4), extra=torch.zeros(1))

    assert module.ran == 2
    assert torch.equal(first, torch.full((1, 4), 2.0))
    assert second.shape == (2, 4)
    assert [tuple(record.args[0].shape) for record in records] == [(1, 4), (2, 4)]
    assert [sorted(record.kwargs) for record in records] == [[], ["extra"]]


@clause("CAP-14")
def test_recorded_calls_are_copies(impl: CapturesCalls) -> None:
    pipeline = Pipeline(Tripwire())

    with impl.capture_calls(pipeline.model) as records:
        pipeline()

    assert len(records) == 3
    assert torch.equal(records[0].args[0], first_latents()), "it was written to"
    assert not torch.equal(records[1].args[0], records[0].args[0])
    assert "forward" not in vars(pipeline.model)


def _of_no_call(impl: CapturesCalls) -> list[Any]:
    with impl.capture_calls(Tripwire()) as found:
        pass
    return list(found)


@clause("CAP-14")
def test_of_a_block_that_never_calls_no_call_is_recorded(impl: CapturesCalls) -> None:
    for found in unless_refused(lambda: _of_no_call(impl)):
        assert found == []


@clause("CAP-15")
def test_the_signature_stays_in_view(impl: Adapter) -> None:
    module = Tripwire()
    outside = inspect.signature(module.forward)
    seen = []

    with impl.capture(module):
        seen.append(inspect.signature(module.forward))
        module(torch.ones(1))

    assert seen == [outside]


@clause("CAP-16")
def test_another_method_is_captured(impl: Adapter) -> None:
    module = Tripwire()

    with impl.capture(module, "decode") as record:
        module(torch.ones(1))
        module.decode(torch.full((2,), 3.0))

    assert torch.equal(record.args[0], torch.full((2,), 3.0))
    assert module.ran == 1
    assert "decode" not in vars(module)


@clause("CAP-16")
def test_a_method_that_does_not_exist_is_an_error_that_names_it(impl: Adapter) -> None:
    module, entered = Tripwire(), []
    missing = pytest.raises((AttributeError, Refused), match="decoed")

    with missing, impl.capture(module, "decoed"):
        entered.append("the block")

    assert entered == []
    assert "decoed" not in vars(module)
