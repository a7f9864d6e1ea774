"""Chapter EXP: what an export leaves behind in the module, and in the process."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from conformance.adapter import Call
from conformance.clauses._compiles import differences, surroundings
from conformance.models import applying, blocks, calls, state
from conformance.models import export as models
from conformance.spec import clause
from conformance.workbench import attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.adapter import Adapter


@clause("EXP-09")
@pytest.mark.parametrize("make", [state.Stateful, state.Counting])
def test_an_export_is_no_call_that_a_module_counts(
    impl: Adapter, make: Callable[[], nn.Module]
) -> None:
    module = make().eval().requires_grad_(requires_grad=False)
    twin, x = copy.deepcopy(module), torch.ones(state.ROWS, 4)

    attempt(lambda: impl.export(module, Call((x.clone(),), {})))

    assert torch.equal(module(x.clone()), twin(x.clone()))


@clause("EXP-21")
def test_parameters_that_want_gradients_want_them_after_export(impl: Adapter) -> None:
    module = blocks.seeded(blocks.Stack)
    frozen = dict(module.named_parameters())
    frozen.pop("blocks.0.out.bias").requires_grad_()
    frozen.pop("blocks.2.norm.weight").requires_grad_()

    attempt(lambda: impl.export(module, blocks.call()))

    learning = {n for n, p in module.named_parameters() if p.requires_grad}
    assert learning == {"blocks.0.out.bias", "blocks.2.norm.weight"}
    assert not any(parameter.requires_grad for parameter in frozen.values())


@clause("EXP-21")
def test_children_are_in_training_mode_after_export_as_before(impl: Adapter) -> None:
    module = blocks.seeded(applying.Noisy).train()
    module.get_submodule("proj").eval()

    attempt(lambda: impl.export(module, applying.kinds_call()))

    training = {name for name, child in module.named_modules() if child.training}
    assert training == {"", "drop"}


@clause("EXP-21")
@pytest.mark.parametrize("make", [calls.Drawing, models.Undecided])
def test_export_draws_no_random_numbers_and_seeds_none(
    impl: Adapter, make: Callable[[], nn.Module]
) -> None:
    module, call = blocks.seeded(make), models.rows_call(3)
    attempt(lambda: impl.export(module, call))  # what is set once is set now
    torch.manual_seed(5), random.seed(5), np.random.seed(5)  # noqa: NPY002
    before = random_states()

    attempt(lambda: impl.export(module, call))

    assert random_states() == before


def random_states() -> tuple[Any, ...]:
    numbers = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), str(numbers)


@clause("EXP-21")
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
def test_an_export_that_fails_leaves_the_world_alone(
    impl: Adapter, *, grad: bool
) -> None:
    module, call = blocks.seeded(models.Undecided), models.rows_call()
    attempt(lambda: impl.export(module, call))  # what is set once is set now

    with torch.set_grad_enabled(grad):
        world = surroundings()
        attempt(lambda: impl.export(module, call))

        assert differences(world, surroundings()) == []
