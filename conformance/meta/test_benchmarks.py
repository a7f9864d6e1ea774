"""The pure parts of the programs that measure full-size models."""

from __future__ import annotations

import doctest
import json
import math
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from benchmarks import record, table
from benchmarks.full import floor, jobs, run, stages, targets
from benchmarks.full.models import MODELS, weights_bytes
from benchmarks.full.ways import WAYS

if TYPE_CHECKING:
    from pathlib import Path

_GIB = 1 << 30


def _row(ratio: float, *, over: float = 0.0, compile_s: float = 0.0) -> dict[str, Any]:
    """Make a row of a model of 100 GiB that eager runs in 100 ms."""
    spread = {"median": ratio, "quartile_1": ratio - 0.01, "quartile_3": ratio + 0.01}
    ms = {name: 100 / value for name, value in spread.items()}
    measured = {
        "ms": ms,
        "eager_ms": {"median": 100.0, "quartile_1": 99.0, "quartile_3": 101.0},
        "ratio": spread,
        "first": {"total_s": 1.5},
        "weights_bytes": 100 * _GIB,
        "resident_bytes": (100 + over) * _GIB,
        "peak_bytes": 101 * _GIB,
        "error": 0.01,
        "eager_error": 0.02,
    }
    prepared = {
        "start_up_s": 50.0,
        "export_s": 1.0,
        "lowering_s": 2.0,
        "compilation_s": compile_s - 3,
        "other_s": 0.0,
        "total_s": compile_s,
        "graphs_bytes": {"a": 2_000_000, "b": 1_000_000},
        "package_bytes": 3_000_000,
        "peak_bytes": 125 * _GIB,
    }
    row = {"outcome": "ok", "measure": measured}
    return {**row, "prepare": prepared} if compile_s else row


def _rows() -> dict[str, dict[str, Any]]:
    return {
        "eager": _row(1.0, over=1),
        "spaces_whole": {
            "outcome": "crash",
            "message": "measure: died of SIGSEGV\nand more",
        },
        "aoti_ref_whole": _row(1.5, over=2, compile_s=120),
        "aoti_ref_regional": _row(1.48, over=2, compile_s=24),
    }


def _file() -> dict[str, Any]:
    return {
        "benchmark": "flux",
        "environment": {
            "device": "cuda",
            "gpus": ["NVIDIA H200"],
            "cpus": 16,
            "versions": {"diffusers": "0.42.1"},
        },
        "finished": "2026-11-21T08:00:00+00:00",
        "figures": {
            "title": "A model",
            "tiny": False,
            "parallel_compiles": 3,
            "base": {
                "outcome": "ok",
                "work_tflop": {"matmul": 40.0, "attention": 6.0},
                "ceilings_tflops": {"matmul": 800.0, "attention": 600.0},
                "floor_ms": 60.0,
                "weights_bytes": 100 * _GIB,
                "torch": "2.11.0",
                "compiler": "g++: g++ 13",
            },
            "rows": _rows(),
            "targets": [
                targets.Verdict("speed (at least 2)", 1.5, good=False)._asdict()
            ],
        },
    }


def _job(folder: Path) -> jobs.Job:
    return jobs.Job("measure", "eager", "flux", True, "cpu", 2, str(folder))


def _outcome(folder: Path, program: str, *, limit_s: float = 60) -> dict[str, Any]:
    command = (sys.executable, "-c", program)
    return jobs.run(_job(folder), limit_s=limit_s, command=command)


def test_a_floor_is_the_sum_of_its_parts() -> None:
    work = {"matmul": 59.5, "attention": 14.9}

    assert floor.milliseconds(work, {"matmul": 790.0, "attention": 790.0}) == (
        pytest.approx(94.2, abs=0.1)
    )
    assert floor.milliseconds(work, {"matmul": 595.0, "attention": 149.0}) == (
        pytest.approx(200.0)
    )


def test_the_work_of_flux_is_what_its_shapes_say() -> None:
    found = floor.work(MODELS["flux"])

    attention = 4 * (4096 + 512) ** 2 * 3072 * 57 / 1e12
    assert found["attention"] == pytest.approx(attention, rel=1e-3)
    assert found["matmul"] == pytest.approx(59.5, abs=0.05)


def test_fused_attention_counts_as_attention() -> None:
    counts = {
        "aten.mm": 10**12,
        "aten.convolution": 10**12,
        "aten._scaled_dot_product_cudnn_attention": 3 * 10**12,
    }

    assert floor.divided(counts) == {"matmul": 2.0, "attention": 3.0}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_of_full_size_has_its_published_parameters(name: str) -> None:
    billions = {"flux": 11.90, "wan": 14.29, "ltx": 1.92, "qwen": 20.43}[name]

    module = MODELS[name].build("meta")

    count = sum(parameter.numel() for parameter in module.parameters())
    assert count / 1e9 == pytest.approx(billions, abs=0.01)
    assert weights_bytes(module) >= 2 * count


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_tiny_model_takes_all_its_calls(name: str) -> None:
    model = MODELS[name]
    module = model.build("cpu", tiny=True)

    calls = [model.inputs(module, "cpu", tiny=True, at=at) for at in range(3)]
    with torch.no_grad():
        shapes = {tuple(module(**call)[0].shape) for call in calls}

    assert len(shapes) == 3


def test_a_process_that_dies_is_an_outcome(tmp_path: Path) -> None:
    program = "import os; print('so far', flush=True); os.kill(os.getpid(), 11)"

    found = _outcome(tmp_path, program)

    assert found["outcome"] == "crash"
    assert found["message"] == "died of SIGSEGV\nso far"


def test_a_process_without_an_answer_is_an_error(tmp_path: Path) -> None:
    found = _outcome(tmp_path, "raise SystemExit('no memory')")

    assert found["outcome"] == "error"
    assert "ended with 1" in found["message"]
    assert "no memory" in found["message"]


def test_a_process_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    start = time.monotonic()

    found = _outcome(tmp_path, "import time; time.sleep(60)", limit_s=0.5)

    assert found == {"outcome": "timeout", "message": "killed after 0 s"}
    assert time.monotonic() - start < 30


def test_an_answer_is_handed_on(tmp_path: Path) -> None:
    program = (
        "import json, sys; told = json.loads(sys.argv[1]);"
        "open(sys.argv[2], 'w').write(json.dumps({'outcome': 'ok', 'is': told['row']}))"
    )

    found = _outcome(tmp_path, program)

    assert (found["outcome"], found["is"]) == ("ok", "eager")


def test_a_row_that_crashes_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def instead(job: jobs.Job, **_: Any) -> dict[str, Any]:
        if (job.row, job.phase) == ("aoti_ref_whole", "prepare"):
            return {"outcome": "crash", "message": "died of SIGSEGV", "wall_s": 1.0}
        return {"outcome": "ok", "wall_s": 1.0}

    monkeypatch.setattr(jobs, "run", instead)
    output = tmp_path / "found.json"
    settings = run.Settings("flux", True, "cpu", 2, 2, 60, 600, tmp_path, output)
    bench = run.Bench(settings, {"rows": {}})

    bench.run(["eager", "aoti_ref_whole", "aoti_ref_regional"])

    rows = json.loads(output.read_text())["figures"]["rows"]
    assert list(rows) == ["eager", "aoti_ref_whole", "aoti_ref_regional"]
    assert rows["aoti_ref_whole"] == {
        "outcome": "crash",
        "message": "prepare: died of SIGSEGV",
    }
    assert rows["aoti_ref_regional"]["outcome"] == "ok"


def test_a_run_without_time_says_so(tmp_path: Path) -> None:
    settings = run.Settings("flux", True, "cpu", 2, 1, 60, 0, tmp_path, None)
    bench = run.Bench(settings, {"rows": {}})

    bench.run(["eager"])

    assert bench.figures["rows"]["eager"]["outcome"] == "not run"


def test_examples_are_true() -> None:
    assert doctest.testmod(run) == doctest.TestResults(failed=0, attempted=2)


def test_ceilings_are_measured_where_there_is_no_gpu() -> None:
    found = floor.ceilings("cpu", tiny=True)

    assert 0 < found["attention"] < math.inf
    assert 0 < found["matmul"] < math.inf


def test_a_second_failure_takes_the_first_figures_away() -> None:
    row = run.entered({}, {"measure": {"outcome": "ok", "ms": 1}})

    again = run.entered(row, {"measure": {"outcome": "timeout", "message": "late"}})

    assert row == {"outcome": "ok", "measure": {"ms": 1}}
    assert again == {"outcome": "timeout", "message": "measure: late"}


def test_targets_are_ratios_of_rows() -> None:
    rows = _rows()

    assert all(verdict.good for verdict in targets.judge(rows))

    rows["aoti_ref_regional"] = _row(1.4, over=4, compile_s=60)
    bad = {v.text: v.found for v in targets.judge(rows) if not v.good}
    assert bad == {
        "regional latency to whole (at most 1.02)": pytest.approx(1.5 / 1.4),
        "regional compile to whole (at most 0.25)": pytest.approx(0.5),
        "aoti_ref_regional: resident to weights (at most 1.02)": pytest.approx(1.03),
    }


def test_three_resolutions_may_take_more_memory_than_one() -> None:
    rows = {name: _row(1.0, over=3.5) for name in ("aoti_ref_whole", "eager")}
    rows["aoti_ref_resolutions"] = _row(1.5, over=6)

    memory = {v.text: v.good for v in targets.judge(rows) if "resident" in v.text}

    assert memory == {
        "aoti_ref_whole: resident to weights (at most 1.02)": True,
        "aoti_ref_resolutions: resident to weights (at most 1.03)": True,
    }


def test_a_target_without_its_rows_is_not_judged() -> None:
    assert targets.judge({"eager": _row(1.0)}) == []


def test_nothing_compared_with_nan_is_good() -> None:
    rows = _rows()
    rows["aoti_ref_whole"]["measure"]["error"] = float("nan")

    bad = [v.text for v in targets.judge(rows) if not v.good]

    assert bad == ["aoti_ref_whole: error to eager's (at most 3)"]


def test_stages_add_up() -> None:
    spent = {"export": 2.0, "aot_compile": 7.0, "aot_code": 4.0}

    found = stages.ahead(spent, 10.0)

    assert (found["lowering_s"], found["other_s"]) == (3.0, 1.0)
    assert sum(found.values()) == 2 * found["total_s"]


def test_a_page_has_every_row() -> None:
    text = table.section(_file())

    assert (
        "| aoti_ref_whole | 66.7 (67.1 to 66.2) | 100.0 (99.0 to 101.0) | 1.50 |"
        in text
    )
    assert "| 90.0% | 1.50 | 0.50 |" in text
    assert "| eager | - | - | - | - | - | - | 1.00 | 1.00 | - |" in text
    assert "- spaces_whole: crash: measure: died of SIGSEGV\n" in text
    assert "- BAD  speed (at least 2): 1.5" in text
    assert "compiled 3 at a time" in text


def test_pages_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = (table.pages([_file()], tmp_path) for _ in range(2))

    assert first == second
    assert [path.name for path in first] == ["performance.md", "performance.svg"]
    assert "aoti_ref_regional" in first[tmp_path / table.PICTURE]


def test_without_results_there_are_no_pages(tmp_path: Path) -> None:
    (tmp_path / "overhead.json").write_text(json.dumps({"figures": {"ratio": 1}}))

    assert table.pages(table.read(tmp_path)) == {}
    assert table.excerpt([]) == ""


def test_figures_are_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "found.json"
    record.write(path, "flux", {"rows": {}})
    monkeypatch.setattr(json, "dumps", lambda *_, **__: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        record.write(path, "flux", {"rows": {"eager": {}}})

    assert json.loads(path.read_text())["figures"] == {"rows": {}}


def test_every_row_is_of_a_known_layer() -> None:
    assert {name.rsplit("_", 1)[0] for name in WAYS} == {
        "eager",
        "torch",
        "spaces",
        "aoti_ref",
        "fp8_row",
        "fp8_tensor",
    }
