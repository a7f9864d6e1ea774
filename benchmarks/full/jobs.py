"""Start a process for a phase of a row, and make an outcome of however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

CACHE = "cache"
ROOT = Path(__file__).parents[2]
_SHOWN = 1500  # characters of what a process wrote, for one that says nothing better

# To quantise leaves holes between weights, which stay torch's otherwise.
ALLOCATOR = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}


class Job(NamedTuple):
    """What a process is told, as JSON."""

    phase: str  # base, prepare, measure
    row: str
    model: str
    tiny: bool
    device: str
    rounds: int
    work: str  # the folder that all processes share
    began: float = 0.0  # time.monotonic() at the start of the process

    @property
    def folder(self) -> Path:
        """The row's own folder."""
        return Path(self.work) / self.row


def run(job: Job, *, limit_s: float, command: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run a job to its end.

    Args:
        job: What to do.
        limit_s: When to kill it.
        command: What to start instead of `benchmarks.full.child`.

    Returns:
        Its answer, with `outcome`: ok, or error, crash or timeout with a `message`.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    answer, log = (job.folder / f"{job.phase}.{kind}" for kind in ("json", "log"))
    answer.unlink(missing_ok=True)
    job = job._replace(began=time.monotonic())
    words = command or (sys.executable, "-m", "benchmarks.full.child")
    start = time.monotonic()
    with log.open("wb") as written:
        try:
            code = subprocess.run(  # noqa: S603
                [*words, json.dumps(job._asdict()), str(answer)],
                cwd=ROOT,
                env={**ALLOCATOR, **os.environ, **_caches(job)},
                stdout=written,
                stderr=subprocess.STDOUT,
                timeout=max(limit_s, 0.1),
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return {"outcome": "timeout", "message": f"killed after {limit_s:.0f} s"}
    took = {"wall_s": round(time.monotonic() - start, 1)}
    if answer.exists():
        return {**json.loads(answer.read_text(encoding="utf-8")), **took}
    tail = log.read_text(encoding="utf-8", errors="replace")[-_SHOWN:].strip()
    if code < 0:
        what = f"died of {signal.Signals(-code).name}"
        return {"outcome": "crash", "message": f"{what}\n{tail}".strip(), **took}
    what = f"ended with {code} and no answer"
    return {"outcome": "error", "message": f"{what}\n{tail}".strip(), **took}


def _caches(job: Job) -> dict[str, str]:
    """Give every row a cache of its own for compilers: empty first, then warm.

    What tiny models cost says nothing, so that they share one.
    """
    cache = (Path(job.work) if job.tiny else job.folder) / CACHE
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }
