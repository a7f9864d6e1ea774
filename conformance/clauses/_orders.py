"""A state machine: an applied module and an eager twin go through the same steps."""

from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING, Any, cast

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from conformance.clauses import _calls
from conformance.clauses._applied import unless_refused
from conformance.models import blocks, calls
from conformance.strategies import perturbations
from conformance.workbench import (
    Pair,
    applied_copy,
    assert_agrees,
    assert_equal_or_refused,
    attempt,
    is_refusal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.adapter import Adapter, Restores
    from conformance.cache import PackageCache

_SETTINGS = settings(
    max_examples=20,
    stateful_step_count=12,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
_WEIGHTS = ("table.weight", "proj.weight", "proj.bias")


class Orders(RuleBasedStateMachine):
    """Steps that users take, in any order.

    Args:
        impl: The implementation.
        compiled: Many, compiled.
        seed: For the weights.
    """

    def __init__(self, impl: Adapter, compiled: Any, seed: int) -> None:
        super().__init__()
        self.impl = impl
        self.compiled = compiled
        module = blocks.seeded(calls.Many, seed)
        self.twins = Pair(module, applied_copy(impl, compiled, module))
        self.is_applied = True
        self.is_changed = False  # since apply: calls may be refused then

    @classmethod
    def check(cls, impl: Adapter, cache: PackageCache, seed: int) -> None:
        """Try orders of steps until one fails, or enough have not."""
        module = blocks.seeded(calls.Many, seed)
        compiled = cache.compiled(module, calls.many_call(), dynamic=calls.DYNAMIC)
        machine = cast("type[Orders]", lambda: cls(impl, compiled, seed))
        run_state_machine_as_test(machine, settings=_SETTINGS)

    @rule(seed=st.integers(0, 99), rows=st.integers(2, 12))
    def call(self, seed: int, rows: int) -> None:
        """Make a good call."""
        ranged = "dynamic" in self.impl.capabilities
        call = calls.many_call(rows, seed) if ranged else calls.many_call(seed=seed)
        if self.is_applied:
            judged = assert_equal_or_refused if self.is_changed else assert_agrees
            judged(self.twins, call)
            return
        with torch.no_grad():
            answers = [module(*call.args, **call.kwargs) for module in self.twins]
        assert torch.equal(*answers)

    @rule(drawn=perturbations())
    def bad_call(self, drawn: tuple[str, int]) -> None:
        """Make a call that is not quite right."""
        _calls.assert_noticed_kind(self.twins, calls.many_call(), *drawn)

    @rule(name=st.sampled_from(_WEIGHTS), factor=st.sampled_from([-1.5, 0.5, 2.0]))
    def change(self, name: str, factor: float) -> None:
        """Change a weight in place."""
        self._change(lambda module: module.get_parameter(name).data.mul_(factor))

    @rule(seed=st.integers(1, 99))
    def load(self, seed: int) -> None:
        """Load other weights."""
        state = blocks.seeded(calls.Many, seed).state_dict()
        self._change(lambda module: module.load_state_dict(state))

    @rule(name=st.sampled_from(_WEIGHTS), seed=st.integers(1, 99))
    def replace(self, name: str, seed: int) -> None:
        """Put another parameter in the place of one."""
        path, _, key = name.rpartition(".")

        def hang(module: nn.Module) -> None:
            new = blocks.seeded(calls.Many, seed).get_parameter(name)
            setattr(module.get_submodule(path), key, new)

        self._change(hang)

    def _change(self, change: Callable[[nn.Module], object]) -> None:
        """Change the weights of both modules, unless the applied one refuses."""
        for _ in unless_refused(lambda: change(self.twins.applied)):
            change(self.twins.eager)
            self.is_changed = True

    @rule()
    def copy(self) -> None:
        """Go on with a deep copy, while the original gets other weights."""
        original = self.twins.applied
        for twin in unless_refused(lambda: copy.deepcopy(original)):
            self.twins = Pair(self.twins.eager, twin)
            for parameter in original.parameters():
                parameter.data.zero_()

    @rule()
    def pickle(self) -> None:
        """Go on with what comes back from a pickle, unless it is refused."""
        made = attempt(lambda: pickle.dumps(self.twins.applied))
        if made.error is not None:
            assert is_refusal(made.error), repr(made.error)
            return
        back = pickle.load(io.BytesIO(made.value))  # noqa: S301  # our own
        self.twins = Pair(self.twins.eager, back)

    @rule()
    def apply_again(self) -> None:
        """Apply the same compiled model again, or for the first time after restore."""

        def again() -> None:
            self.impl.apply(self.compiled, self.twins.applied)
            self.is_changed = False

        if self.is_applied:
            unless_refused(again)
        else:
            again()
        self.is_applied = True

    @precondition(lambda self: self.is_applied and "restore" in self.impl.capabilities)
    @rule()
    def restore(self) -> None:
        """Go back to the module's own code."""
        cast("Restores", self.impl).restore(self.twins.applied)
        self.is_applied = False
