"""Do the same to several things at once, each in a forked child."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from aoti_ref import _serving
from aoti_ref._worker import Task, watch_cuda

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aoti_ref._child import Child

T = TypeVar("T")
R = TypeVar("R")


def at_once(function: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[R]:
    """Give `function` of every item, in order, up to `jobs` of them at once.

    Each has a child, as `gpu_task` makes them. The thread that asks forks them all:
    children of several threads hung on what another thread held at the fork. With
    one job or one item, and inside of a child, there is no fork.

    Raises:
        CudaInParent: This process has started CUDA, which no child survives.
        WorkerDied: A child was ended by a signal.
        Exception: What `function` raised first; what still worked has been ended.
    """
    if jobs <= 1 or len(items) <= 1 or _serving.inside():
        yield from map(function, items)
        return
    watch_cuda()
    task = Task(function, None, reuse=False)
    children: list[Child] = []
    with ExitStack() as stack:
        for done in range(len(items)):
            for item in items[len(children) : done + jobs]:
                child = task.start((item,), {})
                stack.callback(child.end, 0)
                children.append(child)
            yield task.finish(children[done])
