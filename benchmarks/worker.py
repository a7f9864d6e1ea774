"""Time a job of a warm parent, from the fork to the first result of a tiny model.

    python -m benchmarks.worker [--output FILE]

The parent has applied the model and never called it, as the main process of a
ZeroGPU app: each child extracts the package, loads it, and computes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

import aoti_ref
from benchmarks import record
from conformance.models import applying, blocks

if TYPE_CHECKING:
    import torch

TARGET_MS = 150.0
ROUNDS = 30


def measure(rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Give the milliseconds to the first result, and to the end of each call."""
    module, call = blocks.seeded(applying.Kinds), applying.kinds_call()

    @aoti_ref.gpu_task
    def compiled() -> aoti_ref.CompiledModel:
        source = blocks.seeded(applying.Kinds)
        return aoti_ref.compile(
            aoti_ref.export(source, aoti_ref.Call(call.args, call.kwargs))
        )

    @aoti_ref.gpu_task
    def answer() -> tuple[torch.Tensor, float]:
        result = module(*call.args).cpu()
        return result, time.monotonic()  # one clock for all processes

    aoti_ref.apply(compiled(), module)
    answer()
    first, whole = [], []
    for _ in range(rounds):
        began = time.monotonic()
        _, at = answer()
        first.append((at - began) * 1e3)
        whole.append((time.monotonic() - began) * 1e3)
    return {"first_result_ms": first, "call_ms": whole}


def main(arguments: list[str] | None = None) -> int:
    """Print the medians, and write the numbers down; 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="a file for the numbers, as JSON")
    options = parser.parse_args(arguments)
    found = measure()
    medians = {name: statistics.median(numbers) for name, numbers in found.items()}
    console = Console()
    for name, median in medians.items():
        low, high = min(found[name]), max(found[name])
        line = f"{name:16} median {median:6.1f}   from {low:.1f} to {high:.1f}"
        console.print(line, highlight=False)
    good = medians["first_result_ms"] < TARGET_MS
    console.print(f"target: under {TARGET_MS:g} ms to the first result: {good}")
    if options.output:
        figures = {"target_ms": TARGET_MS, "median": medians, "rounds": found}
        record.write(options.output, "worker", figures)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
