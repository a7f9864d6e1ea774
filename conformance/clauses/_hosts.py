"""Lies about this machine: another torch, another processor, another GPU.

They are told in a child, to whoever asks in Python, and never taken back. A layer that
asks the processor itself cannot be lied to.
"""

from __future__ import annotations

import builtins
import io
import os
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch._inductor.cpu_vec_isa
import torch.version

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER_TORCH = "2.99.0"
MORE = "avx9000 amx_more sve9"
_CPUINFO = "/proc/cpuinfo"
_FLAGS = re.compile(r"^(flags|Features)(\s*:)(.*)$", re.MULTILINE)
_VECTOR = re.compile(r"avx|amx|fma|sve|asimd|neon")


def release() -> str:
    """Give torch's release: `2.13`."""
    return ".".join(torch.__version__.split("+")[0].split(".")[:2])


def other_torches() -> dict[str, str]:
    """List releases that this one is not: before it and after it, in either number.

    Where the major is another, the minor is the same: each has to be looked at.
    """
    major, minor = map(int, release().split("."))
    return {
        "newer": OTHER_TORCH,
        "older": f"{major}.{abs(minor - 1)}.0",
        "newer-major": f"{major + 1}.{minor}.0",
        "older-major": f"{major - 1}.{minor}.0",
    }


def has_other_torch(version: str = OTHER_TORCH) -> None:
    """Pretend to be another release of torch."""
    kind: Any = type(torch.__version__)
    torch.__version__ = kind(version)
    torch.version.__version__ = version


def other_machine() -> str:
    """Name a kind of processor that this one is not."""
    return "aarch64" if platform.machine() != "aarch64" else "x86_64"


def is_other_machine() -> None:
    """Pretend to be a machine with another kind of processor."""
    name = other_machine()
    _have_uname_say(*os.uname()[:4], name)
    _answer(platform, "machine", name)


def is_other_system() -> None:
    """Pretend to run another operating system."""
    sys.platform = "plan9"
    _have_uname_say("Plan9", *os.uname()[1:])
    _answer(platform, "system", "Plan9")


def _have_uname_say(*facts: str) -> None:
    os.uname = lambda: os.uname_result(facts)
    keeps: Any = platform
    keeps._uname_cache, keeps._platform_cache = None, {}  # what it has said before


def vector_instructions() -> list[str]:
    """List what this processor can do to vectors."""
    found = _FLAGS.search(Path(_CPUINFO).read_text(encoding="utf-8"))
    return [name for name in found[3].split() if _VECTOR.match(name)] if found else []


def has_no_vectors() -> None:
    """Pretend that the processor has no vector instructions."""
    _tell(lambda flags: " ".join(f for f in flags.split() if not _VECTOR.match(f)))
    _answer(torch.backends.cpu, "get_cpu_capability", "DEFAULT")
    for name in (
        "_is_avx2_supported",
        "_is_avx512_supported",
        "_is_amx_tile_supported",
    ):
        if hasattr(torch.cpu, name):
            _answer(torch.cpu, name, answer=False)
    if hasattr(torch.cpu, "get_capabilities"):
        _answer(torch.cpu, "get_capabilities", {})
    isa: Any = torch._inductor.cpu_vec_isa
    isa.valid_vec_isa_list = list
    isa.pick_vec_isa = isa.InvalidVecISA


def has_more_vectors() -> None:
    """Pretend that the processor has instructions beyond those that it has."""
    _tell(lambda flags: f"{flags} {MORE}")


def has_gpu(capability: tuple[int, int]) -> None:
    """Pretend that CUDA was started here, on a GPU of a compute capability."""
    _answer(torch.cuda, "is_initialized", answer=True)
    _answer(torch.cuda, "is_available", answer=True)
    _answer(torch.cuda, "device_count", 1)
    _answer(torch.cuda, "current_device", 0)
    _answer(torch.cuda, "get_device_capability", capability)
    _answer(torch.cuda, "manual_seed_all", None)  # which takes GPUs that there are


def _answer(owner: Any, name: str, answer: Any) -> None:
    setattr(owner, name, lambda *_args, **_kwargs: answer)


def _tell(change: Callable[[str], str]) -> None:
    """Have /proc/cpuinfo say something else."""
    text = Path(_CPUINFO).read_text(encoding="utf-8")
    lie = _FLAGS.sub(lambda line: line[1] + line[2] + change(line[3]), text)
    with tempfile.NamedTemporaryFile(
        "w", dir="/dev/shm", delete=False, encoding="utf-8"
    ) as file:
        file.write(lie)
    opened = io.open

    def lying(file_: Any, *args: Any, **kwargs: Any) -> Any:
        path = file.name if str(file_) == _CPUINFO else file_
        return opened(path, *args, **kwargs)

    io.open = builtins.open = lying  # type: ignore[assignment]
