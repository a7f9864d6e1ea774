"""Check on a GPU that the parent stays clear of it, and that weights are there once.

    python -m benchmarks.worker_gpu [--output FILE] [--width 16384]

All that touches the GPU is in tasks. With `--device cpu --width 64` the same steps
run without one, but for the memory.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from pathlib import Path
from typing import Any

# torch counts devices through the driver otherwise, which a forked child would feel.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
os.environ.setdefault("TORCH_WARM_POOL", "0")

import torch
from rich.console import Console
from torch import nn

import aoti_ref
from benchmarks import record
from conformance import gauges

LAYERS = 8
JOBS = 20
MOST = 1.02  # resident memory, as a multiple of the weights


class Tower(nn.Module):
    """Linear layers in bfloat16: 4 GiB at a width of 16384."""

    def __init__(self, width: int, device: str) -> None:
        super().__init__()
        like: Any = {"bias": False, "device": device, "dtype": torch.bfloat16}
        layers = (nn.Linear(width, width, **like) for _ in range(LAYERS))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


def tower(width: int, device: str) -> nn.Module:
    """Make a Tower on `device`, its weights from a seed."""
    torch.manual_seed(0)
    return Tower(width, device).eval().requires_grad_(requires_grad=False)


def rows(width: int, device: str) -> torch.Tensor:
    """Draw bfloat16[8, width]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, width, generator=generator).to(device, torch.bfloat16)


@aoti_ref.gpu_task(duration=300)
def compiled(width: int, device: str) -> aoti_ref.CompiledModel:
    """Compile a Tower in a child."""
    module = tower(width, device)
    call = aoti_ref.Call((rows(width, device),))
    return aoti_ref.compile(aoti_ref.export(module, call))


@aoti_ref.gpu_task(duration=120)
def error(model: aoti_ref.CompiledModel, width: int, device: str) -> float:
    """Apply in a child, and give the distance to eager, relative to its norm."""
    module, x = tower(width, device), rows(width, device)
    wanted = module(x).float()
    aoti_ref.apply(model, module)
    return float((module(x).float() - wanted).norm() / wanted.norm())


@aoti_ref.gpu_task(duration=120)
def memory(model: aoti_ref.CompiledModel, width: int) -> dict[str, float]:
    """Compare what the device lacks after apply and a call with the weights."""
    x = rows(width, "cuda")
    # What cuBLAS and the allocator take for themselves is there before and after.
    nn.functional.linear(x, torch.ones_like(x[:1]).expand(width, width).contiguous())
    before = _free()
    module = tower(width, "cuda")
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    made = before - _free()
    aoti_ref.apply(model, module)
    module(x)
    applied = before - _free()
    aoti_ref.restore(module)
    del module
    left = before - _free()
    return {
        "weights": weights,
        "after_making": made,
        "after_apply_and_call": applied,
        "after_deleting": left,
        "ratio": applied / weights,
    }


def _free() -> int:
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info()[0])


def parent() -> dict[str, Any]:
    """Look whether this process has a context."""
    held = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:  # the one that lists them
            continue
        if target.startswith("/dev/nvidia"):
            held.append(target)
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    context = any("nvidia-uvm" in name for name in held)  # nobody asks NVML here
    driver = gauges.cuda_driver_started()
    return {"initialized": started, "context": context or driver, "held": sorted(held)}


def main(arguments: list[str] | None = None) -> int:
    """Print what was found, and write it down; 1 if any of it is not good."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="a file for it, as JSON")
    parser.add_argument("--width", type=int, default=16384)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args(arguments)
    width, device = options.width, options.device

    before = parent()
    model = compiled(width, device)
    errors = [error(model, width, device) for _ in range(JOBS)]
    found = memory(model, width) if device == "cuda" else {"ratio": 0.0}
    after = parent()
    good = {
        "no context before": not (before["initialized"] or before["context"]),
        f"no context after {JOBS} jobs": not (after["initialized"] or after["context"]),
        "a model compiled in a child runs in the next": max(errors) < 0.02,  # noqa: PLR2004
        f"memory at most {MOST} times the weights": found["ratio"] <= MOST,
    }
    console = Console()
    for name, is_good in good.items():
        console.print(f"{'good' if is_good else 'BAD ':4} {name}", highlight=False)
    console.print_json(data={"before": before, "after": after, "memory": found})
    if options.output:
        figures = {
            "good": good,
            "parent": {"before": before, "after": after},
            "errors": errors,
            "memory": found,
        }
        record.write(options.output, "worker_gpu", figures)
    return int(not all(good.values()))


if __name__ == "__main__":
    sys.exit(main())
