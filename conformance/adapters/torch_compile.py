"""Adapter: `torch.compile` in place, as diffusers' own regional compilation does it.

`compile_repeated_blocks` for blocks, `module.compile()` for a whole module. Nothing is
compiled ahead: `export` and `compile` keep the choice, `apply` makes it, and torch
compiles at the first call, and again at a call of another form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from diffusers import ModelMixin

from conformance.adapter import Dynamic, Info, Refused, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from torch import nn

info = Info(
    name="torch_compile",
    version=torch.__version__,
    url="https://huggingface.co/docs/diffusers/optimization/fp16#regional-compilation",
    issues="https://github.com/huggingface/diffusers/issues",
)
capabilities = frozenset({"regional"})


class Choice(NamedTuple):
    """What is to be compiled when its time comes, and with which options."""

    regional: bool
    options: dict[str, Any] | None = None


def capture(_module: nn.Module, _method: str = "forward") -> NoReturn:
    raise Unsupported("torch.compile takes calls as they come: it has no verb for them")


def export(_module: nn.Module, _call: Any, *, dynamic: Dynamic | None = None) -> Choice:
    _refuse_ranges(dynamic)
    return Choice(regional=False)


def compile(exported: Choice, *, options: dict[str, Any] | None = None) -> Choice:
    return exported._replace(options=options)


def apply(compiled: Choice, module: nn.Module) -> None:
    try:
        if compiled.regional:
            ModelMixin.compile_repeated_blocks(
                module, fullgraph=True, options=compiled.options
            )
        else:
            module.compile(fullgraph=True, options=compiled.options)
    except (RuntimeError, ValueError) as error:
        raise Refused(str(error)) from error


def compile_regions(
    _module: nn.Module,
    _run: Callable[[], object],
    *,
    blocks: Sequence[str] | None = None,
    dynamic: Dynamic | None = None,
    leave_eager: bool = False,
    jobs: int = 1,
    progress: bool | Callable[[int, int, str], object] = False,
) -> Choice:
    if blocks is not None:
        raise Unsupported("compile_repeated_blocks takes `_repeated_blocks` alone")
    if leave_eager:
        raise Unsupported("compile_repeated_blocks tells nothing of what stays eager")
    if jobs > 1 or progress:
        raise Unsupported("torch.compile compiles at the first call, and tells nothing")
    _refuse_ranges(dynamic)
    return Choice(regional=True)


def eager_blocks(_compiled: Choice) -> Collection[str]:
    return ()


def _refuse_ranges(dynamic: Dynamic | None) -> None:
    if dynamic:
        raise Unsupported("torch.compile takes any size, and is told no range")
