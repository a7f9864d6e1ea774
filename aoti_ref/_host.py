"""What a package asks of the machine that runs it, and whether this one has it."""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from aoti_ref import _elf, _internals
from aoti_ref._errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_CPUINFO = Path("/proc/cpuinfo")
_DRIVER = Path("/proc/driver/nvidia/version")
_FLAGS = re.compile(r"^(?:flags|Features)\s*:(.*)$", re.MULTILINE)
# Instructions that a compiler may choose by itself when told to use what is there.
_VECTOR = re.compile(r"(?:avx|amx|fma|f16c|bmi|sse4|ssse3|sve|asimd|sme(?!p)|neon).*")
# The oldest driver that runs code of a CUDA release, from NVIDIA's release notes.
_OLDEST_DRIVER = {"12": "525.60.13", "13": "580.65.06"}
_USED = ("torchao", "diffusers", "kernels", "triton")


def built_with() -> dict[str, str | None]:
    """List the versions of what was there when a package was made."""
    found: dict[str, str | None] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }
    for name in _USED:
        if name in sys.modules:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = None
    return found


def needs(device: str, files: Iterable[bytes]) -> dict[str, Any]:
    """Write down what a package that was compiled here asks for.

    Args:
        device: The type of its device.
        files: Its files; what they ask of the system's libraries is read from them.
    """
    libraries: dict[str, str] = {}
    for data in files:
        if _elf.is_library(data):
            for family, newest in _elf.needs(data).items():
                known = libraries.get(family, "0")
                libraries[family] = max(newest, known, key=_numbers)
    gpu = device == "cuda"
    cuda = torch.version.cuda if gpu else None
    return {
        "torch": ".".join(torch.__version__.split("+")[0].split(".")[:2]),
        "platform": sys.platform,
        "machine": platform.machine(),
        # Inductor compiles with -march=native: the whole host counts.
        "cpu": cpu_features(),
        "libraries": libraries,
        "cuda": cuda,
        "driver": _OLDEST_DRIVER.get(cuda.split(".")[0]) if cuda else None,
        "compute_capability": _spelt(torch.cuda.get_device_capability())
        if gpu
        else None,
    }


def faults(wanted: Mapping[str, Any]) -> list[Fault]:
    """Say what this machine does not have of what `needs` wrote down.

    The GPU is asked only where CUDA has been started in this process: to look at it
    would start it, and then no forked job can use it. `gpu_faults` comes later.
    """
    here = torch.__version__.split("+")[0]
    found: list[Fault] = []
    if _numbers(here)[:2] != _numbers(wanted["torch"])[:2]:
        found.append(_fault("version", "torch", wanted["torch"], here))
    for name, has in (("platform", sys.platform), ("machine", platform.machine())):
        if has != wanted[name]:
            found.append(_fault("host", name, wanted[name], has))
    if not found:  # another machine has other instructions, and other libraries
        found += _cpu_faults(wanted["cpu"]) + _library_faults(wanted["libraries"])
    found += _cuda_faults(wanted)
    if wanted["compute_capability"] and _internals.cuda_started():
        found += gpu_faults(wanted, None)
    return found


def gpu_faults(wanted: Mapping[str, Any], index: int | None) -> list[Fault]:
    """Say whether GPU `index` can run what was compiled; it starts CUDA."""
    asked = wanted["compute_capability"]
    if not asked:
        return []
    has = torch.cuda.get_device_capability(index)
    if fits(_numbers(asked), has):
        return []
    return [_fault("gpu", "compute_capability", asked, _spelt(has))]


def fits(made: tuple[int, ...], has: tuple[int, ...]) -> bool:
    """Whether a GPU runs binary code: of its own generation, and no newer than it.

    >>> fits((8, 6), (8, 9)), fits((8, 9), (8, 6)), fits((9, 0), (10, 0))
    (True, False, False)
    """
    return made[:1] == has[:1] and made <= has


def cpu_features() -> list[str]:
    """List this CPU's vector instructions; nothing where the system does not say."""
    try:
        found = _FLAGS.search(_CPUINFO.read_text())
    except OSError:
        return []
    return sorted(filter(_VECTOR.fullmatch, found[1].split())) if found else []


def _cpu_faults(wanted: Sequence[str]) -> list[Fault]:
    has = cpu_features()
    lacking = [name for name in wanted if name not in has]
    if not lacking or not has:
        return []
    detail = f"wants {' '.join(lacking)}, found {' '.join(has)}"
    return [Fault("host", "cpu", detail)]


def _library_faults(wanted: Mapping[str, str]) -> list[Fault]:
    has = {"GLIBC": _glibc(), **_libstdcxx()}
    return [
        _fault("library", family, least, has[family])
        for family, least in wanted.items()
        if has.get(family) and _numbers(has[family]) < _numbers(least)
    ]


def _cuda_faults(wanted: Mapping[str, Any]) -> list[Fault]:
    if not wanted["cuda"]:
        return []
    found: list[Fault] = []
    has = torch.version.cuda
    if not has or _numbers(has)[:1] != _numbers(wanted["cuda"])[:1]:
        found.append(_fault("version", "cuda", wanted["cuda"], has or "none"))
    driver = _driver()
    if wanted["driver"] and driver and _numbers(driver) < _numbers(wanted["driver"]):
        found.append(_fault("version", "driver", f">={wanted['driver']}", driver))
    return found


def _driver() -> str:
    """Read the version of NVIDIA's driver, without starting it."""
    try:
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", _DRIVER.read_text())
    except OSError:
        return ""
    return found[0] if found else ""


def _glibc() -> str:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(" ")[2]
    except (ValueError, OSError):
        return ""


@functools.cache
def _libstdcxx() -> dict[str, str]:
    """Read which versions the libstdc++ of this process offers: torch has loaded it."""
    try:
        maps = Path("/proc/self/maps").read_text(errors="replace")
        paths = re.findall(r"(/\S*libstdc\+\+\.so\S*)", maps)
        data = Path(paths[0]).read_bytes() if paths else b""
    except OSError:
        return {}
    found: dict[str, str] = {}
    for family, text in re.findall(rb"\b(GLIBCXX|CXXABI)_([0-9.]+)\0", data):
        name, offered = family.decode(), text.decode()
        found[name] = max(offered, found.get(name, "0"), key=_numbers)
    return found


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _spelt(capability: tuple[int, ...]) -> str:
    return ".".join(map(str, capability))


def _fault(kind: str, name: str, wanted: str, found: str) -> Fault:
    return Fault(kind, name, f"wants {wanted}, found {found}")
