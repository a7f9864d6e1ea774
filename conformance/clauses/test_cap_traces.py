"""Chapter CAP: what a capture leaves behind."""

from __future__ import annotations

import copy
import gc
import random
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import tqdm
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module

from conformance import pipelines
from conformance.adapter import Refused
from conformance.models.capture import Pipeline, Tripwire
from conformance.spec import clause
from conformance.workbench import attempt

if TYPE_CHECKING:
    from torch import nn

    from conformance.adapter import Adapter


class Mishap(BaseException):
    """What a block may raise: no Exception, as KeyboardInterrupt is none."""


def traces(module: nn.Module) -> dict[str, Any]:
    """List what hangs on a module: attributes by identity, tables by content."""
    tables = {k: dict(v) for k, v in vars(module).items() if isinstance(v, dict)}
    plain = {k: id(v) for k, v in vars(module).items() if k not in tables}
    return {**plain, **tables, "class": sorted(vars(type(module)))}


@clause("CAP-05")
def test_a_captured_module_is_not_run(impl: Adapter) -> None:
    module = Tripwire()

    with impl.capture(module):
        module(torch.ones(1))

    assert module.ran == 0


def calls(module: nn.Module) -> None:
    module(torch.ones(1))


def calls_nothing(module: nn.Module) -> None:
    module.eval()


def fails(module: nn.Module) -> None:
    raise LookupError(type(module).__name__)


def is_interrupted(module: nn.Module) -> None:
    raise Mishap(type(module).__name__)


@clause("CAP-06")
@pytest.mark.parametrize("block", [calls, calls_nothing, fails, is_interrupted])
def test_the_module_is_left_as_it_was_found(impl: Adapter, block: Any) -> None:
    module = Tripwire().eval()
    module.register_forward_hook(lambda *_: None)
    before = traces(module)

    outcome = swallowed(impl, module, block)

    assert traces(module) == before
    assert outcome in ("ended", "refused", "LookupError", "Mishap")
    assert torch.equal(module(torch.ones(2)), torch.full((2,), 2.0))


def swallowed(impl: Adapter, module: nn.Module, block: Any) -> str:
    """Capture around `block`, and name the way in which it ended."""
    try:
        with impl.capture(module):
            block(module)
    except Refused:
        return "refused"
    except (LookupError, Mishap) as error:
        return type(error).__name__
    return "ended"


@clause("CAP-07")
@pytest.mark.parametrize("kind", [LookupError, RuntimeError, Mishap, KeyboardInterrupt])
def test_foreign_exceptions_pass_through(
    impl: Adapter, kind: type[BaseException]
) -> None:
    error = kind("mine")

    with pytest.raises(kind) as caught, impl.capture(Tripwire()):
        raise error

    assert caught.value is error


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


class Doubling(ModelHook):
    """Changes what comes in, and counts what went through."""

    def __init__(self) -> None:
        super().__init__()
        self.before = 0
        self.after = 0

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.before += 1
        return tuple(arg.double() for arg in args), kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        self.after += 1
        return output


@clause("CAP-09")
def test_offloading_hooks_are_seen_through_or_refused(impl: Adapter) -> None:
    module, hook = Tripwire(), Doubling()
    add_hook_to_module(module, hook)

    ended = attempt(lambda: record_of(impl, module))

    assert isinstance(ended.error, (Refused, type(None)))
    for record in [ended.value] if ended.error is None else []:
        assert record.args[0].dtype == torch.float64
    seen = hook.before
    assert module(torch.ones(2)).dtype == torch.float64
    assert hook.before == seen + 1
    remove_hook_from_module(module)
    assert module(torch.ones(2)).dtype == torch.float32


def record_of(impl: Adapter, module: nn.Module) -> Any:
    with impl.capture(module) as record:
        module(torch.ones(2))
    return record


@clause("CAP-10")
def test_random_states_are_left_alone(impl: Adapter) -> None:
    module = Tripwire()
    states = random_states()

    with impl.capture(module):
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002, S311
        module(torch.ones(1))

    assert random_states() == states


def random_states() -> tuple[Any, ...]:
    numbers = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), str(numbers)


@clause("CAP-11")
def test_a_small_pipeline_runs_as_before(impl: Adapter) -> None:
    untouched = Pipeline(Tripwire())(seed=3)
    pipeline = Pipeline(Tripwire())

    with impl.capture(pipeline.model):
        pipeline(seed=5)

    assert torch.equal(pipeline(seed=3), untouched)


@clause("CAP-11")
def test_a_diffusers_pipeline_runs_as_before(impl: Adapter) -> None:
    case = pipelines.load("flux")
    untouched = case.run(seed=3)

    with impl.capture(case.module) as record:
        case.run(seed=5)

    assert "hidden_states" in record.kwargs
    assert torch.equal(case.run(seed=3), untouched)


@clause("CAP-12")
def test_progress_bars_are_closed(impl: Adapter) -> None:
    module = Tripwire()
    open_before = len(tqdm.tqdm._instances)
    kept = []

    with impl.capture(module):
        bar = tqdm.tqdm(range(3), disable=False)
        kept.append(bar)
        for _step in bar:
            module(torch.ones(1))

    assert len(tqdm.tqdm._instances) == open_before


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

    with impl.capture(module) as record, torch.autocast("cpu", dtype=torch.bfloat16):
        module(torch.ones(2))

    assert not torch.is_autocast_enabled("cpu")
    assert record.args[0].dtype == torch.float32


@clause("CAP-18")
def test_a_capture_holds_on_to_nothing_of_the_module(impl: Adapter) -> None:
    module = copy.deepcopy(Tripwire())
    weight = weakref.ref(module.proj.weight)

    with impl.capture(module) as record:
        module(torch.ones(1))
    kept = list(record.args)
    del module, record
    gc.collect()

    assert weight() is None
    assert len(kept) == 1
