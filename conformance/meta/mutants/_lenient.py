"""Mutants that overlook what the reference refuses, or remember too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from aoti_ref import BadCall
from conformance.adapters import reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from aoti_ref._errors import Fault
    from conformance.meta.mutants._around import Answer, Args, Change, Kwargs

_GARBAGE = 7.0


def stateful(make: Callable[[], Change]) -> Any:
    """Apply as the reference does, then let a `Change` of its own make every call."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, module)
        answer, change = module.forward, make()
        module.forward = lambda *args, **kwargs: change(answer, args, kwargs)

    return apply


class _Overlooking:
    """Gives the last answer again where a call has no faults but overlooked ones."""

    def __init__(self, overlooked: Callable[[Fault], bool]) -> None:
        self.overlooked = overlooked
        self.last: Any = torch.full((5, 8), _GARBAGE)

    def __call__(self, answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        try:
            self.last = answer(*args, **kwargs)
        except BadCall as error:
            if not all(map(self.overlooked, error.faults)):
                raise
        return self.last


def overlooks(
    *kinds: str,
    where: Callable[[str], bool] = lambda _name: True,
    found: str = "",
) -> Any:
    """Overlook faults of some kinds, at some names, with `found` in their details."""

    def overlooked(fault: Fault) -> bool:
        return fault.kind in kinds and where(fault.name) and found in fault.detail

    return stateful(lambda: _Overlooking(overlooked))


def nested(name: str) -> bool:
    """Whether a fault is below an argument of parts, and not on a size of one."""
    return name.startswith(("parts", "extra"))
