"""The reference's workers, where they keep more than the clauses ask for."""

from __future__ import annotations

import threading
import time

from aoti_ref import gpu_task
from conformance import isolated

_spans: list[tuple[float, float]] = []
_begun = threading.Event()


class Slow:
    """What takes a while to be put together again."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _put_together, ()


def _put_together() -> str:
    began = time.monotonic()
    _begun.set()
    time.sleep(0.3)
    _spans.append((began, time.monotonic()))
    return "slow"


def _two_threads() -> tuple[list[tuple[float, float]], float]:
    forked: list[float] = []
    other = gpu_task(time.monotonic)

    def ask() -> None:
        _begun.wait(20)
        forked.append(other())

    thread = threading.Thread(target=ask)
    thread.start()
    gpu_task(Slow)()
    thread.join(20)
    return _spans, forked[0]


def test_no_child_begins_while_an_answer_is_put_together() -> None:
    # Its classes may call operators for the first time, and torch half makes those.
    ending = isolated.run_forked(_two_threads, deadline_s=60)

    (span,), forked = ending.answer
    assert forked > span[1]
