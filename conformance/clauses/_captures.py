"""What the clauses of chapter CAP share: runs under a capture, and how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from conformance.adapter import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.adapter import Adapter


class Mishap(BaseException):
    """What a block may raise: no Exception, as KeyboardInterrupt is none."""


def records(impl: Adapter, module: nn.Module, run: Callable[[], object]) -> list[Any]:
    """Capture `module` while `run` runs; no record, where that is refused."""
    try:
        with impl.capture(module) as record:
            run()
    except Refused:
        return []
    return [record]


def calls(module: nn.Module) -> None:
    module(torch.ones(1))


def calls_nothing(module: nn.Module) -> None:
    module.eval()


def fails(module: nn.Module) -> None:
    raise LookupError(type(module).__name__)


def is_interrupted(module: nn.Module) -> None:
    raise Mishap(type(module).__name__)


def is_interrupted_after_a_call(module: nn.Module) -> None:
    try:
        module(torch.ones(1))
    finally:
        is_interrupted(module)


BLOCKS = (calls, calls_nothing, fails, is_interrupted, is_interrupted_after_a_call)


def ending(impl: Adapter, module: nn.Module, block: Callable[[nn.Module], None]) -> str:
    """Capture `module` around `block`, and name the way in which it ended."""
    try:
        with impl.capture(module):
            block(module)
    except Refused:
        return "refused"
    except (LookupError, Mishap) as error:
        return type(error).__name__
    return "ended"


def traces(module: nn.Module) -> dict[str, Any]:
    """List what hangs on a module and its class: tables by content, the rest by id."""
    tables = {k: dict(v) for k, v in vars(module).items() if isinstance(v, dict)}
    plain = {k: id(v) for k, v in vars(module).items() if k not in tables}
    inherited = {k: id(v) for k, v in vars(type(module)).items()}
    return {**plain, **tables, "class": inherited}


def first_latents(seed: int = 0) -> torch.Tensor:
    """Draw the latents with which a Pipeline begins: float32[2, 4]."""
    return torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))
