"""One process: one phase of one row. `benchmarks.full.jobs` starts it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers  # noqa: F401  # here, because building the model needs it
import torch
from torch._inductor.cpp_builder import get_cpp_compiler

from benchmarks import record
from benchmarks.full import floor, gauge, stages
from benchmarks.full.jobs import CACHE, Job
from benchmarks.full.models import MODELS, in_float32, weights_bytes
from benchmarks.full.rows import COMPILING, WAYS

if TYPE_CHECKING:
    from collections.abc import Callable

_REFERENCE = "reference.pt"


def base(job: Job) -> dict[str, Any]:
    """Count the work, measure the ceilings, and keep the answer in float32."""
    model = MODELS[job.model]
    work = floor.work(model, tiny=job.tiny)
    reached = floor.ceilings(job.device, tiny=job.tiny)
    held = floor.held_ceilings(job.device, tiny=job.tiny)
    steady = {kind: found["tflops"] for kind, found in held.items()}
    module: Any = model.build(job.device, tiny=job.tiny)
    weights = weights_bytes(module)
    call = model.inputs(module, job.device, tiny=job.tiny)
    answer = module.float()(**in_float32(call))[0]
    torch.save(answer.cpu(), Path(job.work) / _REFERENCE)
    return {
        "work_tflop": work,
        "ceilings_tflops": reached,
        "held": held,
        "held_floor_ms": floor.milliseconds(work, steady),
        "held_floor_fp8_ms": floor.milliseconds(work, steady, products="matmul_fp8"),
        "floor_ms": floor.milliseconds(work, reached),
        "floor_fp8_ms": floor.milliseconds(work, reached, products="matmul_fp8"),
        "weights_bytes": weights,
        "torch": str(torch.__version__),
        "compiler": _compiler(),
    }


def prepare(job: Job) -> dict[str, Any]:
    """Compile, and leave a package on disk."""
    model, way = MODELS[job.model], COMPILING[job.row]
    folder = job.folder / "package"
    folder.mkdir()
    module = way.ready(model.build(job.device, tiny=job.tiny))
    calls = _calls(job, module)
    module(**calls[0])  # what eager needs once per process is no part of a compile
    gauge.wait(job.device)

    started = time.perf_counter()
    way.start(job.device)
    start_up = time.perf_counter() - started
    gauge.reset_peak(job.device)
    started = time.perf_counter()
    with stages.timed() as spent:
        graphs = way.prepare(module, calls, folder)
    total = time.perf_counter() - started
    return {
        "start_up_s": start_up,
        **way.split(spent, total),
        "graphs_bytes": graphs,
        "package_bytes": sum(graphs.values()) or _size(job.folder / CACHE),
        "peak_bytes": gauge.peak(job.device),
    }


def measure(job: Job) -> dict[str, Any]:
    """Take what is on disk to a first result, then take turns with eager."""
    imported = time.monotonic() - job.began
    model, way, device = MODELS[job.model], WAYS[job.row], job.device
    torch.zeros(1, device=device)
    before = gauge.gone(device)
    module: Any
    weighing, module = _timed(
        lambda: way.ready(model.build(device, tiny=job.tiny)), device
    )
    call, *others = _calls(job, module)
    weights = weights_bytes(module)  # some layers take theirs away

    gauge.reset_peak(device)
    folder = job.folder / "package"
    first = {
        "import_s": _timed(way.use, device)[0],
        "apply_s": _timed(lambda: way.apply(module, folder), device)[0],
    }
    first["run_s"], answer = _timed(lambda: module(**call)[0], device)
    for other in others:
        module(**other)
    peak, after = gauge.peak(device), gauge.gone(device)

    eager: Any = model.build(device, tiny=job.tiny)
    turns = {"own": lambda: module(**call), "eager": lambda: eager(**call)}
    times = gauge.in_turns(turns, device, rounds=job.rounds)
    pairs = zip(times["eager"], times["own"], strict=True)
    apart = [_distance(module(**c)[0], eager(**c)[0]) for c in (call, *others)]
    return {
        "ms": record.spread(times["own"]),
        "eager_ms": record.spread(times["eager"]),
        "ratio": record.spread([theirs / ours for theirs, ours in pairs]),
        "first": {**first, "total_s": sum(first.values())},
        "process_s": imported,
        "weights_s": weighing,
        "weights_bytes": weights,
        "fp8": way.fp8,
        "resident_bytes": None if after is None or before is None else after - before,
        "peak_bytes": peak,
        "error": _error(job, answer),
        "eager_error": _error(job, eager(**call)[0]),
        "distances_to_eager": apart,
        "blocks_db": gauge.blocks_db(module, eager, call),
    }


def _calls(job: Job, module: Any) -> list[dict[str, Any]]:
    """Draw a call for every resolution of the row."""
    model, count = MODELS[job.model], WAYS[job.row].resolutions
    return [
        model.inputs(module, job.device, tiny=job.tiny, at=at) for at in range(count)
    ]


def _timed(function: Callable[[], Any], device: str) -> tuple[float, Any]:
    started = time.perf_counter()
    found = function()
    gauge.wait(device)
    return time.perf_counter() - started, found


def _error(job: Job, answer: torch.Tensor) -> float | None:
    """Give the distance to the answer in float32."""
    path = Path(job.work) / _REFERENCE
    if not path.exists():
        return None
    return _distance(answer, torch.load(path, weights_only=True))


def _distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Give the distance of two answers, relative to the norm of the second."""
    a, b = (tensor.cpu().double() for tensor in (found, wanted))
    return float((a - b).norm() / b.norm())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _compiler() -> str:
    """Say which C++ compiler Inductor takes: a wrong one makes packages that crash."""
    name = get_cpp_compiler()
    command = [name, "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return f"{name}: {said.stdout.splitlines()[0]}"


def main(arguments: list[str]) -> int:
    """Do the job, and write the answer, or what went wrong."""
    told, answer = arguments
    job = Job(**json.loads(told))
    phase = {"base": base, "prepare": prepare, "measure": measure}[job.phase]
    if job.device == "cpu":
        torch.set_num_threads(1)
    try:
        with torch.no_grad():
            said = {"outcome": "ok", **phase(job)}
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the row's outcome
        traceback.print_exc()
        said = {"outcome": "error", "message": f"{type(error).__name__}: {error}"}
    Path(answer).write_text(json.dumps(said), encoding="utf-8")
    return 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the libraries' own deprecations
    sys.exit(main(sys.argv[1:]))
