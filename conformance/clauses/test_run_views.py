"""RUN: results that are views of arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from conformance.models import blocks, views
from conformance.models.blocks import normal
from conformance.spec import clause
from conformance.workbench import attempt, is_refusal, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter
    from conformance.cache import PackageCache

LAYOUTS: dict[str, Callable[[], torch.Tensor]] = {
    "dense": lambda: normal(4, 4),
    "transposed": lambda: normal(4, 4).t(),
    "gaps": lambda: normal(4, 8)[:, ::2],
    "in the middle": lambda: normal(6, 4)[1:5],
}


def _count(view: torch.Tensor) -> None:
    """Add another number at every place, so that none can stand for another."""
    numbers = torch.arange(view.numel(), device=view.device).view(view.shape)
    view.add_(numbers.to(view.dtype))


@clause("RUN-32", may_refuse=True)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", views.VIEWS)
def test_views_of_arguments_look_at_what_eager_looks_at(
    impl: Adapter, cache: PackageCache, seed: int, name: str, layout: str
) -> None:
    module = blocks.seeded(views.Viewed, seed)
    twins = pair(impl, cache, module, views.viewed_call())
    given = [LAYOUTS[layout]() for _ in twins]

    with torch.no_grad():
        _count(twins.eager(given[0])[name])
        made = attempt(lambda: _count(twins.applied(given[1])[name]))

    if made.error is None:
        where = f"in place {name!r} of the result"
        told = f"what is written {where} does not reach the argument as in eager"
        assert torch.equal(*given), told
    elif not is_refusal(made.error):
        raise made.error
