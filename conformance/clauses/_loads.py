"""What clauses run in a process that knows nothing: load a model, apply it, call it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, cast

import torch

from conformance.adapter import Packages, load
from conformance.clauses import _variants
from conformance.clauses._regions import ran_compiled_blocks
from conformance.models import applying, blocks, quantised, regions
from conformance.workbench import assert_answers, ran_compiled


def answer(adapter: str, folder: str, seed: int) -> list[Any]:
    """Load the package in `folder`, apply it to a Kinds of `seed`, and call it."""
    torch.set_num_threads(1)
    impl = cast("Packages", load(adapter))
    module = blocks.seeded(applying.Kinds, seed)
    impl.apply(impl.load(Path(folder)), module)
    return called(module, seed)


def unpickled_module(_adapter: str, path: str, seed: int) -> list[Any]:
    """Unpickle an applied Kinds, and call it."""
    torch.set_num_threads(1)
    return called(pickle.loads(Path(path).read_bytes()), seed)  # noqa: S301  # our own


def unpickled_compiled(adapter: str, path: str, seed: int) -> list[Any]:
    """Unpickle a compiled model, apply it to a Kinds of `seed`, and call it."""
    torch.set_num_threads(1)
    module = blocks.seeded(applying.Kinds, seed)
    load(adapter).apply(pickle.loads(Path(path).read_bytes()), module)  # noqa: S301
    return called(module, seed)


def called(module: torch.nn.Module, seed: int) -> list[Any]:
    """Call a Kinds; the answer as lists, which JSON can say."""
    with torch.no_grad():
        result: list[Any] = module(*applying.kinds_call(seed).args).tolist()
    return result


def assert_told(found: Any, module: torch.nn.Module, call: Any) -> None:
    """Assert that lists, from another process, hold the answer of `module` to `call`.

    Args:
        found: Lists of numbers.
        module: Eager, with one tensor for a result.
        call: What was called there.
    """
    __tracebackhide__ = True
    with torch.no_grad():
        wanted = module(*call.args, **call.kwargs)
    told = torch.tensor(found, dtype=wanted.dtype, device=wanted.device)
    assert_answers(told, module, call)


def answer_of_blocks(adapter: str, folder: str, seed: int) -> list[Any]:
    """Load the compiled blocks in `folder`, apply them to a Twofold, and call it."""
    torch.set_num_threads(1)
    impl = cast("Packages", load(adapter))
    module = blocks.seeded(regions.Twofold, seed)
    impl.apply(impl.load(Path(folder)), module)
    with ran_compiled_blocks(module):
        return called_blocks(module, seed)


def called_blocks(module: torch.nn.Module, seed: int) -> list[Any]:
    """Call a Twofold; the answer as lists, which JSON can say."""
    with torch.no_grad():
        result: list[Any] = module(**regions.call(seed=seed).kwargs).tolist()
    return result


def answers_of_variants(adapter: str, folder: str, seed: int) -> list[Any]:
    """Load the variants in `folder`, apply them to a Mixed, and call each of them."""
    torch.set_num_threads(1)
    impl = cast("Packages", load(adapter))
    module = _variants.mixed(seed)
    impl.apply(impl.load(Path(folder)), module)
    with ran_compiled(module):
        return _variants.answers(module, seed)


# bfloat16 has eight bits, and compiled code rounds in other places.
NEAR = 2**-6


def answer_of_quantised(adapter: str, folder: str, seed: int) -> list[Any]:
    """Load the package in `folder`, apply it to a quantised Mlp, and call it."""
    torch.set_num_threads(1)
    impl = cast("Packages", load(adapter))
    module = quantised.quantised(quantised.Mlp, seed)
    impl.apply(impl.load(Path(folder)), module)
    with torch.no_grad(), ran_compiled(module):
        result: list[Any] = module(*quantised.call().args).float().tolist()
    return result
