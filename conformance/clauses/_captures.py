"""What the clauses of chapter CAP share: runs under a capture, and how they ended."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from conformance.adapter import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def decodes(module: nn.Module) -> None:
    module.decode(torch.ones(1))  # type: ignore[operator]


def ending(
    impl: Adapter,
    module: nn.Module,
    block: Callable[[nn.Module], None],
    method: str = "forward",
) -> str:
    """Capture `module` around `block`, and name the way in which it ended."""
    try:
        with impl.capture(module, method):
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


def turns_grad_mode() -> None:
    torch.set_grad_enabled(not torch.is_grad_enabled())


def sets_the_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)


def turns_autocast_on() -> None:
    torch.set_autocast_enabled("cpu", True)


def turns_autocast_on_for_gpus() -> None:
    torch.set_autocast_enabled("cuda", True)


def casts_to_another_dtype() -> None:
    torch.set_autocast_dtype("cpu", torch.float16)


SETTINGS = (
    turns_grad_mode,
    sets_the_default_dtype,
    turns_autocast_on,
    turns_autocast_on_for_gpus,
    casts_to_another_dtype,
)


def modes() -> dict[str, Any]:
    """Note the modes that a block can set without a `with`."""
    return {
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        **{f"autocast {d}": torch.is_autocast_enabled(d) for d in ("cpu", "cuda")},
        **{f"to {d}": torch.get_autocast_dtype(d) for d in ("cpu", "cuda")},
    }


@contextmanager
def modes_put_back() -> Iterator[None]:
    """Leave the modes alone for those who come after, whatever the block does."""
    before = modes()
    try:
        yield
    finally:
        torch.set_grad_enabled(before["grad"])
        torch.set_default_dtype(before["dtype"])
        for kind in ("cpu", "cuda"):
            torch.set_autocast_enabled(kind, before[f"autocast {kind}"])
            torch.set_autocast_dtype(kind, before[f"to {kind}"])


def first_latents(seed: int = 0) -> torch.Tensor:
    """Draw the latents with which a Pipeline begins: float32[2, 4]."""
    return torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))
