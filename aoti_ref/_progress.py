"""Show how far a compile of several graphs has come."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Progress = Callable[
    [int, int, str], object
]  # graphs done, of all, and the blocks' class


@contextmanager
def shown(
    progress: bool | Progress,  # noqa: FBT001  # as it was given
    total: int,
    what: str = "blocks",
) -> Iterator[Progress]:
    """Give what shows how far the compile has come: the caller's, a bar, or nothing."""
    if callable(progress):
        yield progress
        return
    try:
        bars = importlib.import_module("tqdm.auto") if progress and total > 1 else None
    except ImportError:
        bars = None
    if bars is None:
        yield lambda _done, _total, _kind: None
        return
    with bars.tqdm(total=total, desc=f"Compiling {what}") as bar:

        def show(done: int, _total: int, kind: str) -> None:
            bar.set_postfix_str(kind)
            bar.update(done - bar.n)

        yield show
