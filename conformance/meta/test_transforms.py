"""What the reference says to those who would transform compiled code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import aoti_ref

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def applied() -> nn.Linear:
    module = nn.Linear(4, 4, bias=False).eval()
    with torch.no_grad():
        with aoti_ref.capture(module) as call:
            module(torch.randn(3, 4))
        aoti_ref.apply(aoti_ref.compile(aoti_ref.export(module, call)), module)
        module(torch.randn(3, 4))
    return module


def follow(module: nn.Module) -> Any:
    x = torch.randn(3, 4)
    make_dual: Any = forward_ad.make_dual
    with forward_ad.dual_level():
        return module(make_dual(x, torch.ones_like(x)))


def push_forward(module: nn.Module) -> Any:
    x = torch.randn(3, 4)
    return torch.func.jvp(module, (x,), (torch.ones_like(x),))


def vectorise(module: nn.Module) -> Any:
    return torch.vmap(module)(torch.randn(2, 3, 4))


def differentiate(module: nn.Module) -> Any:
    return torch.func.grad(lambda x: module(x).sum())(torch.randn(3, 4))


# torch loads what it differentiates forwards by with torch.jit, which is deprecated.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("use", "words"),
    [
        (follow, "carries no tangents"),
        (push_forward, "cannot transform compiled code"),
        (vectorise, "cannot transform compiled code"),
        (differentiate, "cannot transform compiled code"),
    ],
)
def test_transforms_are_refused(
    applied: nn.Linear, use: Callable[[nn.Module], Any], words: str
) -> None:
    with pytest.raises(aoti_ref.BadCall, match=words):
        use(applied)


def test_a_call_that_nobody_differentiates_is_answered(applied: nn.Linear) -> None:
    x = torch.randn(3, 4)
    wanted = nn.functional.linear(x, applied.weight)

    with forward_ad.dual_level(), torch.no_grad():
        found = applied(x)

    torch.testing.assert_close(found, wanted)
