"""Split what compiling costs into export, lowering and compilation.

Every layer goes through the same few functions of torch, which are timed where they
stand. *Lowering* is Inductor's work in Python, with the kernels that it tries out and
Triton compiles on the way; *compilation* is the C++ compiler's and, for torch.compile,
the wait for Triton's workers.
"""

from __future__ import annotations

import functools
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch._inductor
import torch.export
from torch._inductor import async_compile, codecache, compile_fx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PLACES: dict[str, tuple[Any, str]] = {
    "export": (torch.export, "export"),
    "aot_compile": (torch._inductor, "aot_compile"),  # noqa: SLF001
    "aot_code": (codecache.AotCodeCompiler, "compile"),
    "compile_fx": (compile_fx, "compile_fx"),
    "workers": (async_compile.AsyncCompile, "wait"),
}


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Time the functions of torch that compile, in seconds, for the whole process."""
    spent = dict.fromkeys(_PLACES, 0.0)
    with ExitStack() as stack:
        for name, (owner, attribute) in _PLACES.items():
            bound = getattr(owner, attribute)
            instead: Any = _clocked(bound, spent, name)
            if attribute == "compile":  # a class method, bound above
                instead = staticmethod(instead)
            stack.enter_context(patch.object(owner, attribute, instead))
        yield spent


def _clocked(
    function: Callable[..., Any], spent: dict[str, float], name: str
) -> Callable[..., Any]:
    inside = False

    @functools.wraps(function)
    def clocked(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if inside:  # compile_fx calls itself
            return function(*args, **kwargs)
        inside = True
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            inside = False
            spent[name] += time.perf_counter() - start

    return clocked


def ahead(spent: dict[str, float], total: float) -> dict[str, float]:
    """Split the seconds of a compile ahead of time."""
    return {
        "export_s": spent["export"],
        "lowering_s": spent["aot_compile"] - spent["aot_code"],
        "compilation_s": spent["aot_code"],
        "other_s": total - spent["export"] - spent["aot_compile"],
        "total_s": total,
    }


def just_in_time(spent: dict[str, float], total: float) -> dict[str, float]:
    """Split the seconds of a first call: what Dynamo traces stands for the export."""
    return {
        "export_s": total - spent["compile_fx"],
        "lowering_s": spent["compile_fx"] - spent["workers"],
        "compilation_s": spent["workers"],
        "other_s": 0.0,
        "total_s": total,
    }
