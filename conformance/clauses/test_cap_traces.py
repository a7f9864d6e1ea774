"""Chapter CAP: what a capture leaves behind."""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import tqdm

from conformance import pipelines
from conformance.clauses._captures import BLOCKS, Mishap, decodes, ending, traces
from conformance.models.capture import Pipeline, Tripwire
from conformance.spec import clause

if TYPE_CHECKING:
    from torch import nn

    from conformance.adapter import Adapter


@clause("CAP-05")
def test_a_captured_module_is_not_run(impl: Adapter) -> None:
    module = Tripwire()

    with impl.capture(module):
        module(torch.ones(1))

    assert module.ran == 0, f"the module's own code ran {module.ran} times"


@clause("CAP-05")
def test_a_module_that_torch_compiles_is_not_run_either(impl: Adapter) -> None:
    module, graphs = Tripwire(), []

    def backend(graph: Any, _examples: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    module.compile(backend=backend)

    with torch.inference_mode(), impl.capture(module) as record:
        module(torch.ones(2), scale=3.0)
    recorded = len(graphs)
    answer = module(torch.ones(2), scale=3.0)

    assert recorded == 0, "torch.compile traced the module in the capture"
    assert len(graphs) == 1, "torch.compile did not trace the module afterwards"
    assert record.kwargs == {"scale": 3.0}
    assert torch.equal(record.args[0], torch.ones(2))
    assert torch.equal(answer, torch.full((2,), 3.0))


@clause("CAP-06")
@pytest.mark.parametrize("block", BLOCKS)
def test_the_module_is_left_as_it_was_found(impl: Adapter, block: Any) -> None:
    module = Tripwire().eval()
    module.register_forward_hook(lambda *_: None)
    before = traces(module)

    ended = ending(impl, module, block)

    assert traces(module) == before
    assert ended in ("ended", "refused", "LookupError", "Mishap")
    assert torch.equal(module(torch.ones(2)), torch.full((2,), 2.0))


@clause("CAP-06")
@pytest.mark.parametrize("block", BLOCKS)
def test_a_forward_of_the_instance_stays_there(impl: Adapter, block: Any) -> None:
    module = Tripwire().eval()
    own = functools.partial(Tripwire.forward, module, scale=3.0)
    module.forward = own  # type: ignore[method-assign]

    ending(impl, module, block)

    assert module.forward is own
    assert torch.equal(module(torch.ones(2)), torch.full((2,), 3.0))


@clause("CAP-06")
@pytest.mark.parametrize("block", [decodes, *BLOCKS])
def test_a_module_whose_other_method_was_captured_is_left_alone(
    impl: Adapter, block: Any
) -> None:
    module = Tripwire().eval()
    before = traces(module)

    ending(impl, module, block, "decode")

    assert traces(module) | {"ran": 0} == before | {"ran": 0}


@clause("CAP-07")
@pytest.mark.parametrize("kind", [LookupError, RuntimeError, Mishap, KeyboardInterrupt])
def test_foreign_exceptions_pass_through(
    impl: Adapter, kind: type[BaseException]
) -> None:
    error = kind("mine")

    with pytest.raises(kind) as caught, impl.capture(Tripwire()):
        raise error

    assert caught.value is error


def _is_tidied_up_badly(module: nn.Module, error: BaseException) -> None:
    try:
        module(torch.ones(1))
    finally:
        raise error


@clause("CAP-07")
def test_an_exception_of_the_block_after_its_call_passes_through(
    impl: Adapter,
) -> None:
    module, error = Tripwire(), Mishap("mine")

    with pytest.raises(Mishap) as caught, impl.capture(module):
        _is_tidied_up_badly(module, error)

    assert caught.value is error


@clause("CAP-10")
def test_random_states_are_left_alone(impl: Adapter) -> None:
    module = Tripwire()
    states = random_states()

    with impl.capture(module):
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002, S311
        module(torch.ones(1))

    after = random_states()
    changed = [name for name, state in states.items() if after[name] != state]
    assert changed == [], f"the random state of {', '.join(changed)} is another one"


@clause("CAP-10")
@pytest.mark.parametrize("block", BLOCKS)
def test_random_states_are_left_alone_however_the_block_ends(
    impl: Adapter, block: Any
) -> None:
    module = Tripwire()
    states = random_states()

    def draws(module: nn.Module) -> None:
        torch.rand(3), random.random(), np.random.rand()  # noqa: NPY002, S311
        block(module)

    ending(impl, module, draws)

    assert random_states() == states


def random_states() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state().tolist(),
        "Python": random.getstate(),
        "NumPy": str(np.random.get_state()),  # noqa: NPY002
    }


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


@clause("CAP-12")
def test_progress_bars_that_are_moved_by_hand_are_closed(impl: Adapter) -> None:
    module = Tripwire()
    open_before = len(tqdm.tqdm._instances)
    kept = []

    with impl.capture(module):
        kept.append(tqdm.tqdm(total=3, disable=False))
        module(torch.ones(1))

    assert len(tqdm.tqdm._instances) == open_before
