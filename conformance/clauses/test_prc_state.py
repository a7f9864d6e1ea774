"""Chapter PRC: what a job finds of its caller, and a child that serves several."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from conformance.clauses import _workers
from conformance.spec import clause
from conformance.workbench import refuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conformance.adapter import Workers

pytestmark = pytest.mark.usefixtures("on_the_cpu")  # a parent starts no CUDA


@clause("PRC-01")
@pytest.mark.parametrize("grad", [False, True])
def test_a_job_has_the_grad_mode_of_its_caller(impl: Workers, *, grad: bool) -> None:
    job = impl.worker(torch.is_grad_enabled)

    with torch.set_grad_enabled(grad):
        assert job() is grad


@clause("PRC-01")
@pytest.mark.parametrize("mode", [False, True])
def test_a_job_has_the_inference_mode_of_its_caller(
    impl: Workers, *, mode: bool
) -> None:
    job = impl.worker(torch.is_inference_mode_enabled)

    with torch.inference_mode(mode):
        assert job() is mode


@clause("PRC-01")
def test_a_reused_child_has_the_grad_mode_of_each_caller(impl: Workers) -> None:
    job, modes = impl.worker(torch.is_grad_enabled, reuse=True), [True, False, True]

    for grad in modes:
        with torch.set_grad_enabled(grad):
            assert job() is grad


def _multiplies() -> tuple[str, str]:
    product = torch.ones(2, 2) @ torch.ones(2, 2)
    return str(product.dtype), str(product.device)


@clause("PRC-01")
@pytest.mark.parametrize(
    "mode",
    [torch.autocast("cpu", torch.bfloat16), torch.device("meta")],
    ids=["autocast", "device"],
)
def test_a_job_has_the_modes_of_its_caller(impl: Workers, mode: Any) -> None:
    job = impl.worker(_multiplies)

    with mode:
        assert job() == _multiplies()


@clause("PRC-01")
def test_a_job_takes_keywords(impl: Workers) -> None:
    def takes(x: int, *rest: int, times: int = 1, **others: int) -> Any:
        return x, rest, times, others

    assert impl.worker(takes)(1, 2, times=3, shift=4) == takes(1, 2, times=3, shift=4)
    assert impl.worker(takes)(x=5) == takes(x=5)


@clause("PRC-01")
def test_a_generator_has_the_mode_and_the_keywords_of_its_caller(
    impl: Workers,
) -> None:
    def items(start: int, *, count: int = 1) -> Iterator[Any]:
        for number in range(start, start + count):
            yield number, torch.is_grad_enabled()

    with torch.set_grad_enabled(False):
        assert list(impl.worker(items)(3, count=2)) == [(3, False), (4, False)]


def _draws() -> list[float]:
    return [*torch.rand(2).tolist(), random.random(), float(np.random.rand())]  # noqa: NPY002, S311  # the global states


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # the global state


def _reads_the_environment() -> str | None:
    return os.environ.get("PALETTE")


def _makes_a_tensor() -> torch.dtype:
    return torch.ones(1).dtype


@clause("PRC-01")
@pytest.mark.parametrize(
    "function", [_draws, os.getcwd, _reads_the_environment, _makes_a_tensor]
)
def test_a_job_answers_what_its_function_answers_here(
    impl: Workers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    function: Callable[[], Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALETTE", "ochre")
    job = impl.worker(function)

    with torch.random.fork_rng(devices=[]), _of_float64():
        _seed(seed)
        found = job()
        _seed(seed)  # whatever the call has drawn here, if anything
        assert found == function()


@contextlib.contextmanager
def _of_float64() -> Iterator[None]:
    """Have tensors be float64 where nobody says what they are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _sleeps(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@clause("PRC-04")
def test_each_job_of_a_reused_child_has_its_duration(impl: Workers) -> None:
    job = impl.worker(_sleeps, duration_s=2, reuse=True)

    assert [job(0.7) for _ in range(4)] == [0.7] * 4


@clause("PRC-04")
def test_a_late_job_of_a_reused_child_is_refused(impl: Workers) -> None:
    job = impl.worker(_sleeps, duration_s=1, reuse=True)
    job(0)
    began = time.monotonic()

    with refuses():
        job(_workers.LONG_S)

    assert time.monotonic() - began < 6


@clause("PRC-10")
def test_a_reused_child_that_was_late_is_replaced(impl: Workers) -> None:
    job = impl.worker(_sleeps, duration_s=1, reuse=True)
    with refuses():
        job(_workers.LONG_S)

    assert [job(0), job(0)] == [0, 0]


@clause("PRC-10")
def test_a_reused_child_takes_and_gives_tensors(impl: Workers) -> None:
    job = impl.worker(lambda x: 2 * x, reuse=True)

    answers = [job(torch.full((3,), number)) for number in range(4)]

    assert [answer.tolist() for answer in answers] == [
        [0] * 3,
        [2] * 3,
        [4] * 3,
        [6] * 3,
    ]


@clause("PRC-10")
def test_what_was_left_of_a_generator_is_not_given_to_the_next(impl: Workers) -> None:
    def items(start: int) -> Iterator[int]:
        yield from range(start, start + 3)

    stream: Any = impl.worker(items, reuse=True)
    first = stream(0)
    assert next(first) == 0
    first.close()

    assert list(stream(10)) == [10, 11, 12]


@clause("PRC-08")
def test_a_reused_child_whose_result_cannot_be_sent_goes_on(impl: Workers) -> None:
    job = impl.worker(lambda number: number or threading.Lock(), reuse=True)
    assert job(1) == 1

    with refuses():
        job(0)

    assert job(2) == 2


@clause("PRC-03")
def test_a_reused_child_that_dies_in_a_job_is_told_and_replaced(impl: Workers) -> None:
    job = impl.worker(
        lambda number: signal.raise_signal(number or signal.SIGWINCH), reuse=True
    )
    job(0)

    with refuses() as refusal:
        job(signal.SIGKILL)

    assert "SIGKILL" in str(refusal)
    assert job(0) is None


@clause("PRC-08")
def test_a_reused_child_is_kept_from_what_cannot_be_sent(impl: Workers) -> None:
    job = impl.worker(lambda value: value, reuse=True)
    assert job(1) == 1

    with refuses() as refusal:
        job(threading.Lock())

    assert "argument" in str(refusal).lower()
    assert "pickle" in str(refusal)
    assert job(2) == 2
