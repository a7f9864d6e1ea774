"""Chapter CST: which constants a module has, and whether they fit the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from conformance.clauses import _cst_fixtures
from conformance.clauses._constants import (
    applied_to,
    assert_right_or_named,
    shown,
)
from conformance.models import constants, state
from conformance.models.blocks import normal
from conformance.models.constants import NAMED, VALUED
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_agrees,
    assert_agrees_or_refuses,
    assert_equal_or_refused,
    built,
    declined,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter
    from conformance.clauses._cst_fixtures import Make

name, make = _cst_fixtures.name, _cst_fixtures.make
compiled, twins = _cst_fixtures.compiled, _cst_fixtures.twins


@clause("CST-01")
@pytest.mark.parametrize("name", VALUED)
def test_constants_of_every_kind_are_the_modules(
    impl: Adapter, compiled: Any, make: Make, name: str
) -> None:
    assert shown(Pair(make(), make()), lambda m: constants.renew(m, name))

    assert_agrees_or_refuses(
        lambda: applied_to(impl, compiled, make, lambda m: constants.renew(m, name)),
        [constants.call(), constants.call(1)],
    )


@clause("CST-04")
@pytest.mark.parametrize("name", NAMED)
def test_a_missing_constant_is_named(
    impl: Adapter, compiled: Any, make: Make, name: str
) -> None:
    module = make()
    constants.drop(module, name)

    with declined("apply", name):
        impl.apply(compiled, module)


@clause("CST-05")
@pytest.mark.parametrize("name", NAMED)
def test_a_constant_of_another_dtype_is_named(
    impl: Adapter, compiled: Any, make: Make, name: str
) -> None:
    module = make()
    constants.recast(module, name)

    with declined("apply", name):
        impl.apply(compiled, module)


SHAPES = [
    *((constants.enlarge, name) for name in NAMED if name != "factor"),
    *((constants.shrink, name) for name in NAMED if name != "factor"),
    *((constants.unfold, name) for name in NAMED),
]


@clause("CST-06")
@pytest.mark.parametrize(("reshape", "name"), SHAPES)
def test_a_constant_of_another_shape_is_named(
    impl: Adapter,
    compiled: Any,
    make: Make,
    reshape: Callable[[nn.Module, str], None],
    name: str,
) -> None:
    module = make()
    reshape(module, name)

    with declined("apply", name):
        impl.apply(compiled, module)


def _gaps(old: torch.Tensor) -> torch.Tensor:
    wide = torch.stack([old, torch.full_like(old, 9)], dim=-1).flatten(-2)
    return wide[..., ::2]


LAYOUTS: dict[str, tuple[str, Any]] = {
    "transposed": ("inner.proj.weight", lambda w: w.t().contiguous().t()),
    "contiguous": ("turned", lambda w: w.contiguous()),
    "gaps": ("zeros", _gaps),
    "gaps in a buffer": ("hidden", _gaps),
    "gaps in a plain tensor": ("inner.plain", _gaps),
    "expanded": ("ones", lambda w: w[:1].expand(4)),
    "sparse": ("hidden", torch.Tensor.to_sparse),
    "negated": ("factor", lambda w: torch.complex(w, -w).conj().imag),
}


@clause("CST-07")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_layout_is_right_or_named(
    impl: Adapter, compiled: Any, make: Make, layout: str
) -> None:
    name, lay_out = LAYOUTS[layout]

    def change(module: nn.Module) -> None:
        constants.put(module, name, lay_out(constants.get(module, name).data))

    assert_right_or_named(
        lambda: applied_to(impl, compiled, make, change),
        name,
    )


@clause("CST-07")
def test_a_weight_transposed_in_place_is_right_or_refused(twins: Pair) -> None:
    for changed in shown(twins, lambda m: constants.get(m, "linear.weight").t_()):
        assert_equal_or_refused(changed, constants.call(1))


@clause("CST-08")
@pytest.mark.parametrize("name", NAMED)
def test_a_constant_elsewhere_is_named(
    impl: Adapter, compiled: Any, make: Make, name: str
) -> None:
    module = make()
    constants.move_away(module, name)

    with declined("apply", name):
        impl.apply(compiled, module)


@clause("CST-09")
@pytest.mark.parametrize(
    ("missing", "recast", "reshaped"),
    [
        ("hidden", "narrow", "inner.plain"),
        ("plain", "hidden", "linear.bias"),
        ("inner.proj.weight", "plain", "factor"),
    ],
)
def test_every_mismatch_is_told_at_once(
    impl: Adapter, compiled: Any, make: Make, missing: str, recast: str, reshaped: str
) -> None:
    module = make()
    constants.drop(module, missing)
    constants.recast(module, recast)
    constants.unfold(module, reshaped)

    with declined("apply", missing, recast, reshaped):
        impl.apply(compiled, module)


def _quantised(module: nn.Module) -> None:
    weight = constants.others("inner.proj.weight")
    constants.put(module, "inner.proj.weight", state.quantise(weight))


@clause("CST-10")
def test_a_subclass_at_apply_is_right_or_refused(
    impl: Adapter, compiled: Any, make: Make
) -> None:
    assert_agrees_or_refuses(
        lambda: applied_to(impl, compiled, make, _quantised),
        [constants.call()],
    )


@clause("CST-10")
def test_a_subclass_after_apply_is_right_or_refused(twins: Pair) -> None:
    for changed in shown(twins, _quantised):
        assert_equal_or_refused(changed, constants.call(1))


@clause("CST-10")
@pytest.mark.usefixtures("cache")  # it keeps the compiler's headers
def test_a_subclass_at_export_is_right_or_refused(impl: Adapter, make: Make) -> None:
    module = make()
    _quantised(module)

    assert_agrees_or_refuses(
        lambda: built(impl, module, constants.call()), [constants.call(1)]
    )


def _burden(module: nn.Module) -> None:
    module.register_parameter("more", nn.Parameter(normal(3), requires_grad=False))
    module.register_buffer("average", torch.ones(2, dtype=torch.float64))
    module.inner.leftover = torch.ones(1)  # type: ignore[union-attr]
    module.inner.register_buffer("ids", torch.arange(7), persistent=False)  # type: ignore[union-attr]
    module.get_parameter("spare").data.fill_(float("nan"))


@clause("CST-11")
def test_tensors_beyond_the_graphs_do_no_harm_at_apply(
    impl: Adapter, compiled: Any, make: Make
) -> None:
    twins = applied_to(impl, compiled, make, _burden)

    assert_agrees(twins, constants.call(1))


@clause("CST-11")
def test_tensors_beyond_the_graphs_do_no_harm_afterwards(twins: Pair) -> None:
    for module in twins:
        _burden(module)

    assert_agrees(twins, constants.call(1))


@clause("CST-22")
@pytest.mark.parametrize("name", constants.NUMBERS)
def test_other_numbers_at_apply_count_or_are_refused(
    impl: Adapter, compiled: Any, make: Make, name: str
) -> None:
    assert_agrees_or_refuses(
        lambda: applied_to(
            impl,
            compiled,
            make,
            lambda m: constants.renumber(m, name),
        ),
        [constants.call()],
    )


@clause("CST-22")
@pytest.mark.parametrize("name", constants.NUMBERS)
def test_numbers_that_change_count_or_are_refused(twins: Pair, name: str) -> None:
    for changed in shown(twins, lambda m: constants.renumber(m, name)):
        assert_equal_or_refused(changed, constants.call(1))


@clause("CST-22")
def test_the_strength_of_an_adapter_counts_or_is_refused(twins: Pair) -> None:
    for changed in shown(twins, constants.weigh_adapter):
        assert_equal_or_refused(changed, constants.call(1))
