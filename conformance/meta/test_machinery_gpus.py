"""The GPUs that workers get, and the markers of what only a GPU decides."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance import gauges, gpus
from conformance.meta.conftest import outcomes
from conformance.spec import Blocked

if TYPE_CHECKING:
    from conformance.meta.conftest import Stage

# This machine need have no GPU: nobody looks.
_BLIND = """
from conformance import collecting
collecting.check_device = lambda name: None
"""
_TESTS = """
    AT_IMPORT = os.environ.get("CUDA_VISIBLE_DEVICES")

    @clause("CAP-01")
    @pytest.mark.parametrize("number", range(4))
    def test_first(number):
        told = {
            "worker": os.environ.get("PYTEST_XDIST_WORKER", "none"),
            "import": AT_IMPORT,
            "child": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "grandchild": subprocess.run(
                ["printenv", "CUDA_VISIBLE_DEVICES"], capture_output=True, text=True
            ).stdout.strip(),
        }
        import json, pathlib
        pathlib.Path(f"seen-{number}.json").write_text(json.dumps(told))

    @clause("CAP-02")
    def test_second(): ...
"""


@pytest.fixture
def blind(stage: Stage) -> Stage:
    """A stage whose clauses run on GPUs, wherever it is."""
    conftest = stage.pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text(encoding="utf-8") + _BLIND)
    stage.clauses(_TESTS)
    return stage


def seen(stage: Stage, *arguments: str) -> dict[str, set[tuple[Any, ...]]]:
    """Run, and tell what each worker has seen: at import, in a child, and in its."""
    stage.run("--aoti-device=cuda", *arguments)
    found: dict[str, set[tuple[Any, ...]]] = {}
    for path in stage.pytester.path.glob("seen-*.json"):
        told = json.loads(path.read_text(encoding="utf-8"))
        views = told["import"], told["child"], told["grandchild"]
        found.setdefault(told["worker"], set()).add(views)
    return found


def test_each_worker_sees_one_gpu_of_the_callers(
    blind: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", " GPU-0a1b , 3,-1,7")

    found = seen(blind, "-n", "auto")

    assert found == {"gw0": {("GPU-0a1b",) * 3}, "gw1": {("3",) * 3}}


def test_a_run_without_workers_keeps_what_it_sees(
    blind: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # that of this test

    assert seen(blind) == {"none": {("2,3",) * 3}}


def test_a_run_on_the_cpu_pins_nothing(
    blind: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")

    found = seen(blind, "-n", "1", "--aoti-device=cpu")

    assert found == {"gw0": {("2,3",) * 3}}


@pytest.mark.parametrize(
    ("given", "names"),
    [("", []), ("-1,0", []), ("1", ["1"]), ("MIG-a, 0,,3", ["MIG-a", "0"])],
)
def test_visible_gpus_are_those_that_cuda_sees(
    monkeypatch: pytest.MonkeyPatch, given: str, names: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)

    assert gpus.visible() == names


def test_a_pinned_process_can_see_all_gpus_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AOTI_GPUS", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,4")

    gpus.pin("3", gpus.visible())
    assert gpus.visible() == ["3"]
    gpus.unpin()
    assert gpus.visible() == ["2", "3", "4"]
    gpus.unpin()
    assert gpus.visible() == ["2", "3", "4"]


def test_tests_that_need_gpus_are_marked_and_blocked_without(stage: Stage) -> None:
    stage.write(
        "clauses/conftest.py",
        "from conformance.fixtures import impl, on_a_gpu, on_fp8, seed, two_gpus\n",
    )
    stage.clauses(
        """
        @clause("CAP-01")
        def test_any(): ...

        @clause("CAP-01")
        def test_gpu(on_a_gpu): ...

        @clause("CAP-01")
        @pytest.mark.usefixtures("on_fp8")
        def test_fp8(): ...

        @clause("CAP-01")
        def test_two(two_gpus): ...
        """
    )

    ran = outcomes(stage.results("--strict-markers", "-m", "gpu and not hopper"))

    assert ran == {"test_gpu": "blocked", "test_two": "blocked"}


def test_markers_follow_what_a_test_asks_for() -> None:
    assert gpus.markers_of(["impl", "seed"]) == []
    assert gpus.markers_of(["on_fp8", "on_a_gpu"]) == ["gpu", "hopper"]
    assert gpus.markers_of(["two_gpus", "on_a_gpu"]) == ["gpu", "multi_gpu"]


def unshared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test say who shares its GPU, and forget it afterwards."""
    monkeypatch.setenv("AOTI_GPU_WORKERS", "1")
    monkeypatch.setenv("AOTI_GPU_LOCKS", "")
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")


def test_memory_of_a_shared_gpu_is_nobodys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unshared(monkeypatch)
    monkeypatch.setenv("AOTI_DEVICE", "cuda")
    gpus.share(among=3, workers=3, locks=[tmp_path / "lock"])

    with pytest.raises(Blocked, match="3 workers share the GPU"):
        gauges.used_bytes()


def test_who_has_the_gpu_alone_shares_it_with_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unshared(monkeypatch)
    gpus.share(among=3, workers=3, locks=[tmp_path / "own", tmp_path / "other"])

    with gpus.held(), gpus.held(every=True):
        assert gpus.sharing() == 3
        assert not _is_free(tmp_path / "own")
        assert not _is_free(tmp_path / "other")
    with gpus.held(alone=True):
        assert gpus.sharing() == 1
        assert not _is_free(tmp_path / "own")
        assert _is_free(tmp_path / "other")
    assert gpus.sharing() == 3
    assert _is_free(tmp_path / "own")


def test_workers_take_the_locks_of_several_gpus_in_one_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unshared(monkeypatch)
    taken: list[str] = []
    monkeypatch.setattr(
        fcntl, "flock", lambda file, _: taken.append(Path(file.name).name)
    )
    for names in (["gpu-0", "gpu-1"], ["gpu-1", "gpu-0"]):
        gpus.share(among=1, workers=2, locks=[tmp_path / name for name in names])
        with gpus.held(alone=True, every=True), gpus.held():
            pass

    assert taken == ["gpu-0", "gpu-1", "gpu-0", "gpu-0", "gpu-1", "gpu-1"]


def _is_free(lock: Path) -> bool:
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.parametrize(("cores", "threads"), [(16, "3"), (2, "1")])
def test_workers_compile_with_their_part_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: str
) -> None:
    unshared(monkeypatch)
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS")
    monkeypatch.setattr("os.cpu_count", lambda: cores)

    gpus.share(among=5, workers=5, locks=[])

    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == threads


_MEASURING = """
    import json, pathlib, time

    def told(name):
        began = time.monotonic()
        time.sleep(0.1)
        span = os.environ["AOTI_GPU_WORKERS"], began, time.monotonic()
        pathlib.Path(f"span-{name}.json").write_text(json.dumps(span))

    @clause("CAP-01")
    @pytest.mark.parametrize("number", range(8))
    def test_measures(number, gpu_alone):
        told(f"alone-{number}")

    @clause("CAP-01")
    @pytest.mark.parametrize("number", range(8))
    def test_other(number):
        told(f"other-{number}")

    @clause("CAP-02")
    def test_second(): ...
"""


def test_what_measures_a_gpu_comes_last_and_runs_alone(
    blind: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    fixtures = "from conformance.fixtures import gpu_alone, impl, seed\n"
    blind.write("clauses/conftest.py", fixtures)
    blind.clauses(_MEASURING)

    blind.run("--aoti-device=cuda", "-n", "4")

    spans = {
        path.stem.removeprefix("span-"): json.loads(path.read_text(encoding="utf-8"))
        for path in blind.pytester.path.glob("span-*.json")
    }
    alone = {name for name in spans if name.startswith("alone")}
    assert (len(spans), len(alone)) == (16, 8)
    assert {spans[name][0] for name in alone} == {"1"}
    assert {spans[name][0] for name in spans.keys() - alone} == {"4"}
    for name in alone:
        _, began, ended = spans[name]
        beside = [
            other
            for other, (_, start, end) in spans.items()
            if other != name and start < ended and began < end
        ]
        assert beside == []
