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
from torch import nn

from benchmarks import record
from benchmarks.full import floor, gauge, jobs, run, stages, tuning
from benchmarks.full.models import MODELS, weights_bytes
from benchmarks.full.rows import WAYS

if TYPE_CHECKING:
    from pathlib import Path


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


def test_speeds_that_last_are_measured_where_there_is_no_gpu() -> None:
    found = floor.held_ceilings("cpu", tiny=True)

    assert found.keys() == {"matmul", "attention"}
    assert all(0 < told["tflops"] < math.inf for told in found.values())
    assert all(told["watts"] is None and told["mhz"] is None for told in found.values())


def test_a_product_writes_what_the_gelu_after_it_makes() -> None:
    module = nn.Sequential(
        nn.Linear(4, 8), nn.GELU("tanh"), nn.Linear(8, 8), nn.GELU(), nn.Tanh()
    )
    x = torch.randn(2, 3, 4)
    program = torch.export.export(module.eval(), (x,))
    wanted = program.module()(x)

    found = tuning.with_epilogues(program)

    called = [str(node.target) for node in found.graph.nodes]
    assert called.count("aten._addmm_activation.default") == 1
    assert called.count("aten.gelu.default") == 1  # it is of another kind
    # A CPU's own epilogue is the other GELU, a little off.
    torch.testing.assert_close(found.module()(x), wanted, rtol=0.01, atol=0.01)


def test_a_second_failure_takes_the_first_figures_away() -> None:
    row = run.entered({}, {"measure": {"outcome": "ok", "ms": 1}})

    again = run.entered(row, {"measure": {"outcome": "timeout", "message": "late"}})

    assert row == {"outcome": "ok", "measure": {"ms": 1}}
    assert again == {"outcome": "timeout", "message": "measure: late"}


def test_stages_add_up() -> None:
    spent = {"export": 2.0, "aot_compile": 7.0, "aot_code": 4.0}

    found = stages.ahead(spent, 10.0)

    assert (found["lowering_s"], found["other_s"]) == (3.0, 1.0)
    assert sum(found.values()) == 2 * found["total_s"]


def test_a_floor_without_its_ceiling_is_none() -> None:
    work = {"matmul": 10.0, "attention": 1.0}
    speeds = {"matmul": 100.0, "attention": 100.0, "matmul_fp8": 200.0}

    assert floor.milliseconds(work, speeds, products="matmul_fp8") == (
        pytest.approx(60.0)
    )
    del speeds["matmul_fp8"]
    assert floor.milliseconds(work, speeds, products="matmul_fp8") is None


def test_blocks_are_compared_on_the_arguments_of_eager() -> None:
    eager: Any = MODELS["flux"].build("cpu", tiny=True)
    other: Any = MODELS["flux"].build("cpu", tiny=True)
    call = MODELS["flux"].inputs(eager, "cpu", tiny=True)
    for block in other.single_transformer_blocks:
        block.proj_out.weight.mul_(1.01)

    with torch.no_grad():
        found = gauge.blocks_db(other, eager, call)

    assert found is not None
    assert found["FluxTransformerBlock"] == pytest.approx(200)  # the same to the bit
    assert 20 < found["FluxSingleTransformerBlock"] < 80


def test_weights_that_are_made_of_others_count_once() -> None:
    module: Any = MODELS["flux"].build("cpu", tiny=True)
    plain = weights_bytes(module)

    WAYS["fp8_row_whole"].ready(module)

    assert 0.5 * plain < weights_bytes(module) < 0.75 * plain


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
    layers = "eager", "torch", "spaces", "aoti_ref", "fp8_row", "fp8_tensor"
    found = {name: [one for one in layers if name.startswith(one)] for name in WAYS}

    assert [name for name, layer in found.items() if len(layer) != 1] == []
    assert {layer for (layer,) in found.values()} == set(layers)


def test_a_row_that_the_device_lacks_is_unavailable() -> None:
    absent = {name: way.lacks("cpu") for name, way in WAYS.items()}

    assert absent["aoti_ref_whole_cudnn"] == "on cpu there is no cudnn attention"
    assert absent["aoti_ref_whole_flash"] == absent["aoti_ref_whole_math"] == ""
    assert WAYS["aoti_ref_whole_cudnn"].lacks("cuda") == ""
