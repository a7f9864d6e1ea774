"""Chapter PRC: what a job gives, raises, and is refused for."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance.clauses import _threads, _workers
from conformance.models import applying, jobs
from conformance.spec import clause
from conformance.workbench import Pair, attempt, refuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conformance.adapter import Workers
    from conformance.cache import PackageCache

pytestmark = pytest.mark.usefixtures("on_the_cpu")  # a parent starts no CUDA


@pytest.fixture
def twins(impl: Workers, cache: PackageCache, seed: int) -> Pair:
    return _workers.noisy_twins(impl, cache, seed)


@clause("PRC-01")
def test_a_job_calls_an_applied_module_as_eager_does(
    impl: Workers, twins: Pair
) -> None:
    x = applying.kinds_call(1).args[0]
    job = impl.worker(_workers.compiled_call(twins.applied, x))

    _threads.assert_near(job(), twins.eager(x))


@clause("PRC-01")
def test_what_a_job_writes_stays_in_it(impl: Workers, twins: Pair) -> None:
    x, noted = torch.ones(3), [os.getpid()]
    weights = twins.applied.get_parameter("proj.weight")
    before = weights.clone()

    def writes(y: torch.Tensor) -> tuple[list[int], float]:
        noted.append(os.getpid())
        weights.data.zero_()
        return noted, float(y.mul_(3).sum())

    found, total = impl.worker(writes)(x)

    assert len(set(found)) == 2
    assert total == 9
    assert (noted, x.tolist()) == ([os.getpid()], [1, 1, 1])
    assert torch.equal(weights, before)


@clause("PRC-02")
def test_an_exception_keeps_its_type_and_facts(impl: Workers) -> None:
    raised = attempt(impl.worker(jobs.runs_out_of_paint)).error

    assert type(raised) is jobs.OutOfPaint
    assert raised.args == ("ochre", 1.5)
    assert (raised.colour, raised.hint) == ("ochre", "buy more")


@clause("PRC-02")
@pytest.mark.parametrize("kind", [StopIteration, KeyboardInterrupt])
def test_an_exception_of_any_kind_comes_here(
    impl: Workers, kind: type[BaseException]
) -> None:
    def raises() -> None:
        raise kind("ochre")

    with pytest.raises(kind) as raised:
        impl.worker(raises)()

    assert raised.value.args == ("ochre",)


@clause("PRC-02")
def test_an_exception_says_where_it_was_raised(impl: Workers) -> None:
    raised = attempt(impl.worker(jobs.looks_for_a_key)).error

    assert type(raised) is KeyError
    assert "looks_for_a_key" in "".join(traceback.format_exception(raised))


@clause("PRC-02")
def test_an_exception_that_does_not_pickle_keeps_its_words(impl: Workers) -> None:
    job = impl.worker(jobs.runs_out_of_words)

    with refuses() as refusal:
        job()

    assert "no ochre left, 1.5 litres short" in str(refusal)
    assert "Unpicklable" in str(refusal)


@clause("PRC-03")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_signal_is_told_by_name(impl: Workers, name: str) -> None:
    number = signal.Signals[name]

    with refuses() as refusal:
        impl.worker(signal.raise_signal)(number)

    assert name in str(refusal)
    assert impl.worker(len)([1]) == 1


@clause("PRC-03")
@pytest.mark.parametrize("leave", [os._exit, sys.exit])
def test_an_exit_is_told_by_its_code(impl: Workers, leave: Callable[..., Any]) -> None:
    job = impl.worker(lambda: leave(43))

    with refuses() as refusal:
        job()

    assert "43" in str(refusal)


@clause("PRC-04")
@pytest.mark.parametrize(
    "hang", [_workers.sleep_in_python, _workers.sleep_in_native_code]
)
def test_a_late_job_is_refused_and_gone(
    impl: Workers, tmp_path: Path, hang: Callable[[], None]
) -> None:
    path = tmp_path / "pid"
    job = impl.worker(_workers.noting_its_process(path, hang), duration_s=1)
    began = time.monotonic()

    with refuses():
        job()

    assert time.monotonic() - began < 6
    assert _workers.is_gone(path, within_s=0.1)


@clause("PRC-04")
def test_a_generator_has_one_duration_for_all_items(impl: Workers) -> None:
    def items() -> Iterator[int]:
        for number in range(int(_workers.LONG_S)):
            time.sleep(0.5)
            yield number

    began = time.monotonic()

    with refuses():
        list(impl.worker(items, duration_s=1.2)())

    assert time.monotonic() - began < 6


@clause("PRC-04")
def test_a_job_in_time_is_answered(impl: Workers) -> None:
    assert impl.worker(lambda x: x + 1, duration_s=30)(1) == 2


@clause("PRC-05")
def test_an_item_comes_before_the_next_is_computed(
    impl: Workers, tmp_path: Path
) -> None:
    def items() -> Iterator[Any]:
        yield torch.arange(3)
        yield _workers.appears(tmp_path / "got-the-first", within_s=8)

    stream = impl.worker(items)()
    first = next(stream)
    (tmp_path / "got-the-first").touch()

    assert first.tolist() == [0, 1, 2]
    assert list(stream) == [True]


@clause("PRC-05")
def test_items_come_in_order_and_the_exception_last(impl: Workers) -> None:
    def items(count: int) -> Iterator[int]:
        yield from range(count)
        jobs.runs_out_of_paint()

    found: list[int] = []
    with pytest.raises(jobs.OutOfPaint):
        found.extend(impl.worker(items)(200))

    assert found == list(range(200))


@clause("PRC-06")
@pytest.mark.parametrize("drop", ["close", "forget"])
def test_a_generator_that_is_left_ends_its_job(
    impl: Workers, tmp_path: Path, drop: str
) -> None:
    def items() -> Iterator[int]:
        (tmp_path / "pid").write_text(str(os.getpid()))
        try:
            while True:
                yield 1
        finally:
            (tmp_path / "tidied").touch()

    streams = [impl.worker(items)()]
    assert next(streams[0]) == 1

    {"close": streams[0].close, "forget": streams.clear}[drop]()

    assert _workers.is_gone(tmp_path / "pid", within_s=10)
    assert (tmp_path / "tidied").exists()
