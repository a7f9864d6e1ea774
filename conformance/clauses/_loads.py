"""What clauses run in a process that knows nothing: load a package, apply it, call it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, cast

import torch

from conformance.adapter import Packages, load
from conformance.models import applying, blocks


def answer(adapter: str, folder: str, seed: int) -> list[Any]:
    """Load the package in `folder`, apply it to a Kinds of `seed`, and call it."""
    torch.set_num_threads(1)
    impl = cast("Packages", load(adapter))
    module = blocks.seeded(applying.Kinds, seed)
    impl.apply(impl.load(Path(folder)), module)
    return called(module, seed)


def unpickled(path: str, seed: int) -> list[Any]:
    """Unpickle an applied Kinds, and call it."""
    torch.set_num_threads(1)
    module = pickle.loads(Path(path).read_bytes())  # noqa: S301  # our own file
    return called(module, seed)


def called(module: torch.nn.Module, seed: int) -> list[Any]:
    """Call a Kinds; the answer as lists, which JSON can say."""
    with torch.no_grad():
        result: list[Any] = module(*applying.kinds_call(seed).args).tolist()
    return result
