"""Chapter APP: shapes that almost fit, and a state dict that others ask for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from conformance.clauses._applied import attributes, identities, unless_refused
from conformance.models import applying, blocks
from conformance.spec import clause
from conformance.workbench import attempt, declined, pair

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@clause("APP-03")
@pytest.mark.parametrize(
    "shape", [(4, 5), (4, 3), (3, 4), (5, 4), (2, 8), (8, 2), (1, 16)], ids=str
)
def test_apply_refuses_a_shape_that_almost_fits(
    impl: Adapter, cache: PackageCache, shape: tuple[int, ...]
) -> None:
    compiled = cache.compiled(blocks.seeded(applying.Kinds), applying.kinds_call())
    module: Any = blocks.seeded(applying.Kinds)
    call = applying.kinds_call()
    weight = nn.Parameter(blocks.normal(*shape), requires_grad=False)
    for layer in (module.first, module.second):
        layer.weight = weight
    before = identities(module), attributes(module)
    answer = str(attempt(lambda: module(*call.args)))

    with declined("apply"):
        impl.apply(compiled, module)

    assert (identities(module), attributes(module)) == before
    assert str(attempt(lambda: module(*call.args))) == answer


class Pipeline(nn.Module):
    """It has the module as a child."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser


@clause("APP-10")
@pytest.mark.parametrize(
    "options", [{}, {"prefix": "model."}, {"keep_vars": True}], ids=str
)
@pytest.mark.parametrize("within", [False, True], ids=["alone", "within another"])
def test_the_state_dict_stays_true_however_it_is_asked_for(
    impl: Adapter,
    cache: PackageCache,
    seed: int,
    options: dict[str, Any],
    *,
    within: bool,
) -> None:
    module = blocks.seeded(applying.Kinds, seed)
    twins: Any = pair(impl, cache, module, applying.kinds_call())
    if within:
        twins = [Pipeline(twin) for twin in twins]
    want = twins[0].state_dict(**options)

    for found in unless_refused(partial(twins[1].state_dict, **options)):
        assert list(found) == list(want)
        assert all(torch.equal(found[name], want[name]) for name in want)
        assert all(type(found[name]) is type(want[name]) for name in want)
