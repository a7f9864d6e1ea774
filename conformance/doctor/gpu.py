"""What the doctor looks at on each GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.doctor.checks import Check, on_device
from conformance.doctor.findings import BREAKS, GOOD, NOTE, Finding
from conformance.environment import describe

if TYPE_CHECKING:
    from conformance.doctor.checks import Examination

_DRIVER = (
    "compare nvidia-smi's CUDA version with torch's, and look at CUDA_VISIBLE_DEVICES; "
    "a driver that is too old must be renewed, or torch taken for an older CUDA"
)
_KERNELS = (
    "see that the GPU is free and that CUDA_HOME, if set, is of torch's CUDA; "
    "then look at what `--check compiler` says"
)


def _seen(visit: Examination) -> list[Finding]:
    listed = describe()["gpus"]
    if visit.ask("torch_build", timeout_s=180)["cuda"] is None:
        if not listed:
            return [Finding("gpu", GOOD, "no GPU, and torch for the CPU")]
        told = (
            f"nvidia-smi lists {len(listed)} x {listed[0]}, and torch is for CPU only"
        )
        cure = "pip install torch from the index of your CUDA: https://pytorch.org"
        return [Finding("gpu", NOTE, told, cure)]
    there = visit.ask("gpus", timeout_s=180)
    if there["names"]:
        told = f"torch sees {len(there['names'])} x {there['names'][0]}"
        return [Finding("gpu", GOOD, told)]
    if listed:
        told = f"nvidia-smi lists {len(listed)} x {listed[0]}, and torch sees none"
        return [Finding("gpu", BREAKS, told, _DRIVER)]
    told = "torch is for CUDA, and there is no GPU here"
    cure = "nothing, unless there should be one: clauses that need it are blocked"
    return [Finding("gpu", NOTE, told, cure)]


SEEN = Check("gpu", "GPUs", _seen, _DRIVER)


def each(visit: Examination) -> list[Check]:
    """Return the check of every GPU that torch saw."""
    seen = visit.known("gpus") or {"names": []}
    return [_one(f"cuda:{index}", name) for index, name in enumerate(seen["names"])]


def _one(device: str, name: str) -> Check:
    def look(visit: Examination) -> list[Finding]:
        return [on_device(visit, "gpu", device)]

    return Check("gpu", f"a tiny package on {device}, {name}", look, _KERNELS)
