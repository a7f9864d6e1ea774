"""Chapter PRC: what is easily lost on the way to a job, and on the way back."""

from __future__ import annotations

import contextvars
import os
import re
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance.models import jobs
from conformance.spec import clause
from conformance.workbench import attempt, refuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conformance.adapter import Workers

pytestmark = pytest.mark.usefixtures("on_the_cpu")  # a parent starts no CUDA

_palette: contextvars.ContextVar[str] = contextvars.ContextVar("palette")


@clause("PRC-01")
def test_a_job_has_the_context_of_its_caller(impl: Workers) -> None:
    job = impl.worker(lambda: _palette.get("none"))

    def asks() -> Any:
        _palette.set("ochre")
        return job()

    assert contextvars.copy_context().run(asks) == "ochre"
    assert job() == "none"


@clause("PRC-02")
def test_an_exception_keeps_what_is_no_argument_of_its_own(
    impl: Workers, tmp_path: Path
) -> None:
    missing = tmp_path / "missing"

    raised = attempt(impl.worker(missing.read_bytes)).error

    assert type(raised) is FileNotFoundError
    assert (raised.errno, raised.filename) == (2, str(missing))


@clause("PRC-02")
def test_an_exception_keeps_its_notes(impl: Workers) -> None:
    raised = attempt(impl.worker(jobs.looks_for_a_note)).error

    assert type(raised) is KeyError
    assert raised.__notes__ == ["look on the other side"]


@clause("PRC-02")
def test_an_exception_of_a_class_that_only_the_job_knows_keeps_its_words(
    impl: Workers,
) -> None:
    with refuses() as refusal:
        impl.worker(jobs.raises_what_is_made_there)()

    assert "no ochre left there" in str(refusal)


@clause("PRC-03")
@pytest.mark.parametrize(
    "leave", [lambda: os._exit(0), sys.exit], ids=["at once", "in order"]
)
def test_an_exit_without_an_answer_is_told_though_its_code_is_zero(
    impl: Workers, leave: Callable[[], Any]
) -> None:
    with refuses() as refusal:
        impl.worker(leave)()

    assert re.search(r"\b0\b", str(refusal))
    assert impl.worker(len)([1]) == 1


@clause("PRC-03")
@pytest.mark.parametrize(
    ("end", "word"),
    [
        (lambda: signal.raise_signal(signal.SIGKILL), "SIGKILL"),
        (lambda: os._exit(43), "43"),
    ],
    ids=["signal", "exit"],
)
def test_a_death_amid_items_is_told(
    impl: Workers, end: Callable[[], object], word: str
) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        end()
        yield 3

    found: list[int] = []
    with refuses() as refusal:
        found.extend(impl.worker(items)())

    assert re.search(rf"\b{word}\b", str(refusal))


@clause("PRC-07")
@pytest.mark.parametrize(
    "paint",
    [
        lambda: torch.ones(3, 1).expand(3, 4),
        lambda: torch.arange(24.0).view(2, 3, 4)[:, ::2, 1:3],
        lambda: torch.arange(24.0).view(2, 3, 4).permute(2, 0, 1),
        lambda: torch.tensor(True),
        lambda: torch.ones(2, 0, 3),
    ],
    ids=["expanded", "sliced", "permuted", "0-d", "empty"],
)
def test_a_result_of_any_layout_keeps_it(
    impl: Workers, paint: Callable[[], torch.Tensor]
) -> None:
    result, wanted = impl.worker(paint)(), paint()

    assert torch.equal(result, wanted)
    assert (result.dtype, result.stride()) == (wanted.dtype, wanted.stride())


@clause("PRC-08")
@pytest.mark.parametrize(
    ("kind", "told"),
    # Of what does not come out of its pickle the clause does not say what it is called.
    [(jobs.RefusesToPickle, "{}"), (jobs.RefusesToUnpickle, "varnish")],
    ids=["pickle", "unpickle"],
)
@pytest.mark.parametrize("what", ["result", "item"])
def test_what_refuses_on_its_way_is_told_with_its_words(
    impl: Workers, kind: type, told: str, what: str
) -> None:
    def whole() -> Any:  # in whose name there is neither of the words
        return kind()

    def by_and_by() -> Iterator[Any]:
        yield 1
        yield kind()

    job = impl.worker({"result": whole, "item": by_and_by}[what], duration_s=20)

    with refuses() as refusal:
        list(job())

    assert told.format(what) in str(refusal).lower()
    assert "of varnish" in str(refusal)
    assert impl.worker(len)([1]) == 1


@clause("PRC-09")
def test_a_job_in_a_job_runs_there_though_it_would_reuse_a_child(
    impl: Workers,
) -> None:
    inner = impl.worker(os.getpid, reuse=True)
    own = inner()

    found = impl.worker(lambda: (os.getpid(), inner(), inner()))()

    assert len({*found}) == 1
    assert own not in found


@clause("PRC-09")
def test_a_job_of_a_thread_of_a_job_runs_in_its_process(impl: Workers) -> None:
    inner = impl.worker(os.getpid)

    def asks() -> list[int]:
        found = [os.getpid()]
        thread = threading.Thread(target=lambda: found.append(inner()))
        thread.start()
        thread.join()
        return found

    first, second = impl.worker(asks, duration_s=20)()

    assert first == second
