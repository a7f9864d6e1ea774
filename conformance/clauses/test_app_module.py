"""Chapter APP: what an applied module still is, and the hooks that it has."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from accelerate.hooks import add_hook_to_module, remove_hook_from_module

from conformance import pipelines
from conformance.clauses._applied import (
    Counting,
    attributes,
    identities,
    offloading_hook_on_a_child,
    parameters,
    unless_refused,
)
from conformance.models import applying, blocks
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    attempt,
    declined,
    pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@pytest.fixture
def compiled(cache: PackageCache) -> Any:
    return cache.compiled(blocks.seeded(applying.Kinds), applying.kinds_call())


@pytest.fixture
def kinds(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(applying.Kinds, seed)
    return pair(impl, cache, module, applying.kinds_call())


MISFITS = [
    applying.drops_a_weight,
    applying.reshapes_a_weight,
    applying.widens_a_weight,
    applying.moves_a_weight,
    applying.drops_a_buffer,
    applying.narrows_a_buffer,
]


@clause("APP-03")
@pytest.mark.parametrize("misfit", MISFITS)
def test_apply_refuses_a_misfit_and_leaves_it_as_found(
    impl: Adapter, compiled: Any, misfit: Callable[[nn.Module], None]
) -> None:
    module, call = blocks.seeded(applying.Kinds), applying.kinds_call()
    misfit(module)
    before = identities(module), attributes(module)
    answer = str(attempt(lambda: module(*call.args)))

    with declined("apply"):
        impl.apply(compiled, module)

    assert identities(module) == before[0], "tensors are others after the refusal"
    assert attributes(module) == before[1], "attributes are others after the refusal"
    assert str(attempt(lambda: module(*call.args))) == answer


@clause("APP-03")
def test_a_refused_model_leaves_the_one_that_was_applied(
    impl: Adapter, cache: PackageCache, kinds: Pair
) -> None:
    other = cache.compiled(blocks.seeded(applying.Noisy), applying.kinds_call())
    before = identities(kinds.applied), attributes(kinds.applied)

    with declined("apply"):
        impl.apply(other, kinds.applied)

    assert (identities(kinds.applied), attributes(kinds.applied)) == before
    assert_agrees(kinds, applying.kinds_call(1))


@clause("APP-06")
def test_the_module_looks_as_before(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    module.own = {"set": "by the user"}  # type: ignore[assignment]
    applied = pair(impl, cache, module, blocks.call()).applied

    applied(**blocks.call().kwargs)

    for name in ("config", "dtype", "device", "training", "own", "_repeated_blocks"):
        assert getattr(applied, name) == getattr(module, name)
    assert isinstance(applied, blocks.Stack)
    # The module itself may be of a class that is derived from its own.
    assert [type(child) for child in [*applied.modules()][1:]] == [
        type(child) for child in [*module.modules()][1:]
    ]


@clause("APP-06", deadline_s=600)
def test_a_denoiser_of_diffusers_looks_as_before(
    impl: Adapter, cache: PackageCache
) -> None:
    case = pipelines.load("sd3")

    eager, applied = pair(impl, cache, case.module, case.first_call())

    for name in ("config", "dtype", "device", "training"):
        assert getattr(applied, name) == getattr(eager, name)


@clause("APP-07")
def test_the_signature_survives(impl: Adapter, cache: PackageCache, seed: int) -> None:
    eager, applied = pair(impl, cache, blocks.seeded(blocks.Stack, seed), blocks.call())

    found, want = parameters(applied), parameters(eager)

    assert list(found.items()) == list(want.items())


@clause("APP-07", deadline_s=600)
def test_the_signature_of_a_denoiser_survives(
    impl: Adapter, cache: PackageCache
) -> None:
    case = pipelines.load("sd3")

    eager, applied = pair(impl, cache, case.module, case.first_call())

    assert list(parameters(applied).items()) == list(parameters(eager).items())


def listened(module: nn.Module) -> list[str]:
    """Hang hooks on a module that change its calls, and list them as they run."""
    seen: list[str] = []

    def double(_module: nn.Module, args: Any) -> Any:
        seen.append("double")
        return (args[0] * 2,)

    def earliest(_module: nn.Module, args: Any, kwargs: Any) -> Any:
        seen.append("earliest")
        return (args[0] + 1,), kwargs

    def add(_module: nn.Module, _args: Any, result: Any) -> Any:
        seen.append("add")
        return result + 1

    def last(_module: nn.Module, args: Any, _kwargs: Any, result: Any) -> Any:
        seen.append("last")
        return result * args[0].sum()

    module.register_forward_pre_hook(double)
    module.register_forward_pre_hook(earliest, prepend=True, with_kwargs=True)
    module.register_forward_hook(add)
    module.register_forward_hook(last, with_kwargs=True)
    return seen


ORDER = ["earliest", "double", "add", "last"]


@clause("APP-08")
def test_hooks_from_before_apply_run_once_in_order(
    impl: Adapter, compiled: Any
) -> None:
    eager, applied = (blocks.seeded(applying.Kinds) for _ in range(2))
    listened(eager)
    seen = listened(applied)

    impl.apply(compiled, applied)

    assert_agrees(Pair(eager, applied), applying.kinds_call(1))
    assert seen == ORDER


@clause("APP-08")
def test_hooks_from_after_apply_run_once_in_order(kinds: Pair) -> None:
    kinds.applied(*applying.kinds_call().args)

    listened(kinds.eager)
    seen = listened(kinds.applied)

    assert_agrees(kinds, applying.kinds_call(1))
    assert seen == ORDER


CHILD_HOOKS = [
    applying.hook_after_a_child,
    applying.hook_before_a_child,
    offloading_hook_on_a_child,
]


@clause("APP-09")
@pytest.mark.parametrize("hook", CHILD_HOOKS)
def test_a_hook_on_a_child_before_apply_runs_or_is_refused(
    impl: Adapter, compiled: Any, hook: Callable[[nn.Module], None]
) -> None:
    eager, applied = (blocks.seeded(applying.Kinds) for _ in range(2))
    for module in (eager, applied):
        hook(module)

    def make() -> Pair:
        impl.apply(compiled, applied)
        return Pair(eager, applied)

    assert_agrees_or_refuses(make, [applying.kinds_call(1)])


@clause("APP-09")
@pytest.mark.parametrize("hook", CHILD_HOOKS)
def test_a_hook_on_a_child_after_apply_runs_or_is_refused(
    kinds: Pair, hook: Callable[[nn.Module], None]
) -> None:
    kinds.applied(*applying.kinds_call().args)

    for module in kinds:
        hook(module)

    assert_equal_or_refused(kinds, applying.kinds_call(1))


@clause("APP-09")
@pytest.mark.parametrize("hook", CHILD_HOOKS)
def test_a_hook_on_a_child_of_a_child_runs_or_is_refused(
    impl: Adapter, cache: PackageCache, seed: int, hook: Callable[[nn.Module], None]
) -> None:
    module = blocks.seeded(partial(applying.Deep, applying.Kinds), seed)
    twins = pair(impl, cache, module, applying.kinds_call())
    twins.applied(*applying.kinds_call().args)

    for each in twins:
        hook(each.get_submodule("inner"))

    assert_equal_or_refused(twins, applying.kinds_call(1))


@clause("APP-23")
def test_an_offloading_hook_from_before_apply_runs_or_apply_refuses(
    impl: Adapter, compiled: Any
) -> None:
    eager, hook = blocks.seeded(applying.Kinds), Counting()
    applied = copy.deepcopy(eager)
    add_hook_to_module(eager, Counting())
    add_hook_to_module(applied, hook)

    for _ in unless_refused(lambda: impl.apply(compiled, applied)):
        assert_agrees(Pair(eager, applied), applying.kinds_call(1))
        assert hook.counts == {"before": 1, "after": 1}


@clause("APP-23")
def test_an_offloading_hook_comes_and_goes(kinds: Pair) -> None:
    eager, hook = kinds.eager, Counting()
    hooked = copy.deepcopy(eager)
    add_hook_to_module(hooked, Counting())

    add_hook_to_module(kinds.applied, hook)
    assert_equal_or_refused(Pair(hooked, kinds.applied), applying.kinds_call(1))
    remove_hook_from_module(kinds.applied)

    assert_equal_or_refused(kinds, applying.kinds_call(2))
    assert hook.counts == {"before": 1, "after": 1}
