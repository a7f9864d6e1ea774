"""Chapter PRC: applied modules in forked and spawned processes."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import random
import sys
import tempfile
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance import isolated
from conformance.clauses import _threads, _workers
from conformance.clauses._applied import unless_refused
from conformance.fresh import fresh_python
from conformance.models import applying, blocks, jobs
from conformance.spec import clause
from conformance.workbench import applied_copy, pair

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter import Adapter, Packages
    from conformance.cache import PackageCache

pytestmark = pytest.mark.usefixtures("on_the_cpu")  # a fork survives no CUDA


def _in_a_child(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Call an applied module in a forked child, within 30 s."""
    call = _workers.compiled_call(module, x)
    ending = isolated.run_forked(lambda: call().tolist(), deadline_s=30)
    assert ending.kind == "answer", ending.text
    return torch.tensor(ending.answer)


@clause("PRC-16")
@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_forked_child_calls_what_it_inherits(
    impl: Adapter, cache: PackageCache, seed: int, calls_before: int
) -> None:
    x = applying.kinds_call(1).args[0]
    module = blocks.seeded(applying.Noisy, seed)
    applied = pair(impl, cache, module, applying.kinds_call()).applied
    for _ in range(calls_before):
        applied(x + 1)

    _threads.assert_near(_in_a_child(applied, x), module(x))


@clause("PRC-16")
def test_a_child_forked_during_a_first_call_answers(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    x = applying.kinds_call(1).args[0]
    module = blocks.seeded(applying.Noisy, seed)
    source, pauses = blocks.seeded(applying.Noisy, seed), random.Random(seed)  # noqa: S311
    sys.setswitchinterval(1e-6)
    times = 12 if impl.info.cacheable else 3  # of which each is a compile

    for _ in range(times):
        compiled = cache.compiled(source, applying.kinds_call())
        twin = applied_copy(impl, compiled, module)
        loading = threading.Thread(target=twin, args=(x,))
        loading.start()
        time.sleep(pauses.random() * 0.01)
        answer = _in_a_child(twin, x)
        loading.join(30)
        _threads.assert_near(answer, module(x))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@clause("PRC-17")
def test_a_child_that_drops_a_model_leaves_its_files(
    impl: Adapter, cache: PackageCache, temporary: Path, seed: int
) -> None:
    x = applying.kinds_call(1).args[0]
    module = blocks.seeded(applying.Noisy, seed)
    held = [pair(impl, cache, module, applying.kinds_call()).applied]
    held[0](x)
    gc.collect()
    before = _workers.files(temporary)

    def drop() -> bool:
        gone = weakref.ref(held[0])
        held.clear()
        gc.collect()
        return gone() is None

    ending = isolated.run_forked(drop, deadline_s=30)

    assert ending.answer is True, ending.text
    assert _workers.files(temporary) == before
    _threads.assert_near(held[0](x), module(x))
    _threads.assert_near(_in_a_child(held[0], x), module(x))


@clause("PRC-17")
def test_children_killed_in_mid_load_do_no_harm(
    impl: Adapter, cache: PackageCache, temporary: Path, seed: int
) -> None:
    x = applying.kinds_call(1).args[0]
    module = blocks.seeded(applying.Noisy, seed)
    applied = pair(impl, cache, module, applying.kinds_call()).applied
    applied(x)
    before = _workers.files(temporary)

    def load_and_call() -> torch.Tensor:
        source = blocks.seeded(applying.Noisy, seed)
        answer: torch.Tensor = pair(impl, cache, source, applying.kinds_call()).applied(
            x
        )
        return answer

    for number in range(16):
        _workers.ended_after(load_and_call, 0.005 * (number + 1))

    assert _workers.files(temporary) >= before
    _threads.assert_near(applied(x), module(x))
    _threads.assert_near(load_and_call(), module(x))


@clause("PRC-18")
def test_a_parent_does_not_start_cuda(
    impl: Packages, cache: PackageCache, adapter_name: str, tmp_path: Path, seed: int
) -> None:
    module = blocks.seeded(applying.Noisy, seed)
    impl.save(cache.compiled(module, applying.kinds_call()), tmp_path)

    task = "conformance.clauses._workers:starts_of_cuda"
    done = fresh_python(task, adapter_name, str(tmp_path), seed)

    assert done.value == {"asked": [], "started": False, "driver": False}


@clause("PRC-19")
def test_a_pickled_module_has_its_weights_once(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(jobs.Tied, seed)
    applied = pair(impl, cache, module, jobs.tied_call()).applied
    applied(*jobs.tied_call().args)
    weights = sum(p.numel() * p.element_size() for p in module.parameters())

    for text in unless_refused(lambda: pickle.dumps(applied)):
        assert len(text) < 1.1 * weights + 4 * 2**20
        found = pickle.loads(text)  # noqa: S301  # our own
        assert found.first.weight is found.second.weight


def _spawned(module: torch.nn.Module, seed: int, path: Path) -> Any:
    """Start a process that gets a module as an argument, and wait for it."""
    context = multiprocessing.get_context("spawn")
    task = _workers.answered_in_a_spawned_process
    process = context.Process(target=task, args=(module, seed, str(path)))
    process.start()
    process.join(60)
    return process.exitcode


@clause("PRC-19")
def test_a_spawned_process_calls_what_it_is_given(
    impl: Adapter, cache: PackageCache, tmp_path: Path, seed: int
) -> None:
    module = blocks.seeded(applying.Noisy, seed)
    applied = pair(impl, cache, module, applying.kinds_call()).applied
    want, path = module(*applying.kinds_call(seed).args), tmp_path / "answer"

    for code in unless_refused(lambda: _spawned(applied, seed, path)):
        assert code == 0
        found = torch.tensor(pickle.loads(path.read_bytes()))  # noqa: S301  # our own
        _threads.assert_near(found, want)
