"""Chapter PRC: jobs beside each other, inside each other, and what they leave."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance.clauses import _threads, _workers
from conformance.models import applying, blocks, jobs
from conformance.spec import clause
from conformance.workbench import attempt, refuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conformance.adapter import Workers
    from conformance.cache import PackageCache

pytestmark = pytest.mark.usefixtures("on_the_cpu")  # a parent starts no CUDA


@clause("PRC-09")
def test_a_job_in_a_job_runs_in_its_process(impl: Workers) -> None:
    inner = impl.worker(os.getpid)

    found = impl.worker(lambda: (os.getpid(), inner()))()

    assert found[0] == found[1] != os.getpid()


@clause("PRC-09")
def test_a_generator_in_a_job_gives_its_items(impl: Workers) -> None:
    def items() -> Iterator[int]:
        yield os.getpid()
        yield 2

    inner = impl.worker(items)

    own, found = impl.worker(lambda: (os.getpid(), list(inner())))()

    assert found == [own, 2]


@clause("PRC-10")
def test_a_child_is_reused_where_asked(impl: Workers) -> None:
    kept: list[int] = []

    def keep(number: int) -> tuple[int, int]:
        kept.append(number)
        return os.getpid(), len(kept)

    warm, cold = impl.worker(keep, reuse=True), impl.worker(keep)

    (first, _), (second, count) = warm(1), warm(2)
    (third, fresh), (fourth, _) = cold(3), cold(4)

    assert (first, count, fresh) == (second, 2, 1)
    assert len({first, third, fourth, os.getpid()}) == 4


@clause("PRC-10")
def test_a_job_without_reuse_sees_the_present_state(impl: Workers) -> None:
    state = [1]
    job = impl.worker(lambda: list(state))
    assert job() == [1]

    state.append(2)

    assert job() == [1, 2]


@clause("PRC-10")
def test_a_reused_child_outlives_exceptions(impl: Workers) -> None:
    def fail_at(number: int) -> int:
        return os.getpid() + 0 // number

    job = impl.worker(fail_at, reuse=True)
    first = job(1)

    assert type(attempt(lambda: job(0)).error) is ZeroDivisionError
    assert job(1) == first


@clause("PRC-10")
def test_a_reused_child_that_died_is_replaced(impl: Workers) -> None:
    job = impl.worker(os.getpid, reuse=True)
    first = job()
    _workers.kill_and_wait(first)

    assert job() not in {first, os.getpid()}


@clause("PRC-10")
def test_a_busy_child_is_not_waited_for(impl: Workers) -> None:
    def items() -> Iterator[int]:
        yield os.getpid()
        yield os.getpid()

    stream = impl.worker(items, reuse=True)
    outer = stream()
    first = next(outer)

    assert first not in list(stream())
    assert list(outer) == [first]


def _closes(impl: Workers, items: Callable[[], Iterator[int]]) -> None:
    stream: Any = impl.worker(items)()
    next(stream)
    stream.close()


@clause("PRC-11")
def test_jobs_leave_no_process_descriptor_or_segment(impl: Workers) -> None:
    def items() -> Iterator[int]:
        yield from range(9)

    def starts_a_process() -> int:
        return subprocess.Popen(["sleep", "30"]).pid  # noqa: S607

    warm = impl.worker(torch.ones, reuse=True)
    warm(3)
    before = _workers.belongings()

    for _ in range(3):
        impl.worker(torch.ones)(2**16)
        warm(2**16)
        attempt(impl.worker(jobs.looks_for_a_key))
        attempt(impl.worker(os.abort))
        attempt(impl.worker(lambda: os._exit(1)))
        attempt(impl.worker(threading.Lock))
        impl.worker(starts_a_process)()
        _closes(impl, items)
    attempt(impl.worker(_workers.sleep_in_python, duration_s=0.2))

    assert _workers.left_behind(before) == []


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@clause("PRC-11")
def test_jobs_leave_no_files(
    impl: Workers, cache: PackageCache, temporary: Path, seed: int
) -> None:
    twins = _workers.noisy_twins(impl, cache, seed)
    call = _workers.compiled_call(twins.applied, *applying.kinds_call().args)
    before = _workers.files(temporary)

    def calls_and_fails() -> None:
        call()
        jobs.looks_for_a_key()

    impl.worker(call)()
    attempt(impl.worker(calls_and_fails))

    assert _workers.files(temporary) == before


@clause("PRC-11")
def test_each_process_tidies_up_its_own(impl: Workers, tmp_path: Path) -> None:
    atexit.register((tmp_path / "parents-exit").touch)
    with tempfile.TemporaryDirectory(dir=tmp_path) as parents:

        def registers() -> str:
            atexit.register((tmp_path / "childs-exit").touch)
            kept.append(tempfile.TemporaryDirectory(dir=tmp_path))
            return str(kept[0].name)

        kept: list[Any] = []
        folder = impl.worker(registers)()

        assert os.path.isdir(parents)  # noqa: PTH112
        assert not os.path.exists(folder)  # noqa: PTH110
    assert (tmp_path / "childs-exit").exists()
    assert not (tmp_path / "parents-exit").exists()


@clause("PRC-12")
@pytest.mark.parametrize("reuse", [False, True])
def test_threads_get_their_own_answers(
    impl: Workers, seed: int, *, reuse: bool
) -> None:
    double = impl.worker(lambda x: x * 2, reuse=reuse)
    given = {
        n: [blocks.normal(64, seed=n + m) for m in range(4)] for n in (0, 10, 20, 30)
    }
    # Beside a fork no operator may be called for the first time: torch half makes it.
    wanted = {number: [x * 2 for x in each] for number, each in given.items()}
    assert torch.equal(wanted[0][0], given[0][0] * 2)
    found: dict[int, bool] = {}

    def ask(number: int) -> None:
        answers = [double(x) for x in given[number]]
        found[number] = all(map(torch.equal, answers, wanted[number]))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=ask, args=(number,)) for number in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    sys.setswitchinterval(interval)

    assert found == dict.fromkeys(given, True)


@clause("PRC-12")
def test_a_sibling_that_is_killed_is_the_only_one(impl: Workers) -> None:
    def items() -> Iterator[int]:
        for number in range(6):
            time.sleep(0.02)
            yield number

    dies = impl.worker(lambda: signal.raise_signal(signal.SIGKILL), duration_s=20)
    stream, found, began = impl.worker(items)(), [], time.monotonic()
    for item in stream:
        found.append(item)
        with refuses() as refusal:
            dies()
        assert "SIGKILL" in str(refusal)

    assert found == [0, 1, 2, 3, 4, 5]
    assert time.monotonic() - began < 15


@clause("PRC-13")
def test_a_parent_with_cuda_is_refused(
    impl: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = impl.worker((tmp_path / "ran").touch)
    monkeypatch.setattr(torch.cuda, "_initialized", True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)

    with refuses() as refusal:
        job()

    assert "cuda" in str(refusal).lower()
    assert not (tmp_path / "ran").exists()


@clause("PRC-14")
def test_a_model_made_in_a_job_serves_the_next(
    impl: Workers, cache: PackageCache, seed: int
) -> None:
    call = applying.kinds_call(1)

    def make() -> Any:
        module = blocks.seeded(applying.Noisy, seed)
        return cache.compiled(module, applying.kinds_call())

    def use(model: Any) -> torch.Tensor:
        module = blocks.seeded(applying.Noisy, seed + 1)
        impl.apply(model, module)
        answer: torch.Tensor = _workers.compiled_call(module, *call.args)()
        return answer

    compiled = impl.worker(make)()
    answers = [impl.worker(use)(compiled), impl.worker(lambda: use(compiled))()]

    wanted = blocks.seeded(applying.Noisy, seed + 1)(*call.args)
    for answer in [*answers, use(compiled)]:
        _threads.assert_near(answer, wanted)


@clause("PRC-15")
@pytest.mark.parametrize("reuse", [False, True])
def test_a_job_computes_though_its_parent_did(impl: Workers, *, reuse: bool) -> None:
    torch.set_num_threads(2)
    x = blocks.normal(700, 700)
    wanted = (x @ x).softmax(-1)

    job = impl.worker(lambda: (x @ x).softmax(-1), duration_s=30, reuse=reuse)

    _threads.assert_near(job(), wanted)
    _threads.assert_near(job(), wanted)
