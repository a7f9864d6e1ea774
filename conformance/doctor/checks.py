"""The checks of the doctor: each asks children for facts, and says what they mean."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from conformance.doctor import folders
from conformance.doctor.findings import BREAKS, GOOD, NOTE, Finding
from conformance.doctor.versions import check_versions
from conformance.fresh import Died, fresh_python

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_PROBES = "conformance.doctor.probes"
_GXX = "install one (Debian: apt install g++), or name yours in CXX"
_STATIC = (
    "compile with the system's compiler: CXX=g++; packages that were made with this "
    "one must be made again"
)
_EXECSTACK = (
    "clear the flag before you load (patchelf --clear-execstack on the .so in the "
    "package; the reference does it when it compiles), or start Python with "
    "GLIBC_TUNABLES=glibc.rtld.execstack=2"
)
_FORK = (
    "in the parent compute nothing on the CPU before it forks, or call "
    "torch.set_num_threads(1) first, in the parent or in the child"
)


@dataclass
class Examination:
    """One visit: a folder for what is built, and facts that several checks need."""

    folder: Path
    _facts: dict[tuple[str, tuple[Any, ...]], Any] = field(default_factory=dict)

    def ask(
        self,
        probe: str,
        *args: Any,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
    ) -> Any:
        """Run a probe in a child, once for the same arguments.

        Raises:
            Died: The child crashed, hung or raised.
        """
        key = probe, args
        if key not in self._facts:
            try:
                self._facts[key] = fresh_python(
                    f"{_PROBES}:{probe}",
                    *args,
                    timeout_s=timeout_s,
                    cwd=self.folder,
                    env=env,
                ).value
            except Died as died:
                self._facts[key] = died
        if isinstance(self._facts[key], Died):
            raise self._facts[key]
        return self._facts[key]

    def known(self, probe: str, *args: Any) -> Any:
        """What a probe has found already; None if it was not asked, or died."""
        found = self._facts.get((probe, args))
        return None if isinstance(found, Died) else found


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Args:
        name: As `--check` takes it.
        title: As the progress shows it.
        look: What finds.
        dies: The cure if a child of it dies.
    """

    name: str
    title: str
    look: Callable[[Examination], list[Finding]]
    dies: str


def _python(_: Examination) -> list[Finding]:
    told = f"Python {platform.python_version()} on {platform.platform()}"
    if sys.platform != "linux":
        cure = "the suite forks, and reads /proc: run it on Linux"
        return [Finding("python", NOTE, told, cure)]
    return [Finding("python", GOOD, told)]


def _versions(_: Examination) -> list[Finding]:
    return check_versions()


def _torch(visit: Examination) -> list[Finding]:
    there = visit.ask("torch_build", timeout_s=180)
    built = f"CUDA {there['cuda']}" if there["cuda"] else "CPU only"
    told = f"torch {there['version']} ({built}) in {there['folder']}"
    if not there["package"]:
        lacks = f"{told} has no aoti_compile_and_package"
        return [Finding("torch", BREAKS, lacks, "pip install 'torch>=2.10'")]
    return [Finding("torch", GOOD, told)]


def _compiler(visit: Examination) -> list[Finding]:
    there = visit.ask("compiler", str(visit.folder), timeout_s=300)
    told = f"{there['command']}: {there['version']}"
    shared = any(name.startswith("libstdc++.so") for name in there["needed"])
    if sys.platform == "linux" and not shared:
        links = ", ".join(there["needed"]) or "nothing"
        found = f"{told}; what it builds has no shared libstdc++ (it needs {links})"
        return [Finding("compiler", BREAKS, found, _STATIC)]
    if visit.ask("call_beside_torch", there["plain"], timeout_s=180) != 1:
        found = f"{told}; a regular expression that it compiled answers wrongly"
        return [Finding("compiler", BREAKS, found, _STATIC)]
    return [Finding("compiler", GOOD, f"{told}; links the shared libstdc++")]


def _tmpdir(visit: Examination) -> list[Finding]:
    named = os.environ.get("TMPDIR")
    there = visit.ask("folder", named or tempfile.gettempdir(), timeout_s=60)
    return [folders.tmpdir(there, named)]


def _disk(visit: Examination) -> list[Finding]:
    paths = visit.ask("caches", timeout_s=60)
    return [folders.cache(visit.ask("folder", path, timeout_s=60)) for path in paths]


def _fork(visit: Examination) -> list[Finding]:
    there = visit.ask("forks", timeout_s=240)
    found = []
    if there["clean"] != "ok":
        told = f"a fork of a process that computed nothing {_ends(there['clean'])}"
        cure = "set OMP_NUM_THREADS=1; if that does not help, torch's build is at fault"
        found.append(Finding("fork", BREAKS, told, cure))
    if len(there["runtimes"]) > 1:
        told = f"two OpenMP runtimes are loaded: {', '.join(there['runtimes'])}"
        cure = "use one: build or install every extension for the one that torch brings"
        found.append(Finding("fork", NOTE, told, cure))
    if there["after"] != "ok":
        told = f"a fork after OpenMP ran in its parent {_ends(there['after'])}"
        found.append(Finding("fork", NOTE, f"{told}, as libgomp always does", _FORK))
    good = f"forked children compute, on {there['threads']} threads"
    return found or [Finding("fork", GOOD, good)]


def _ends(how: str) -> str:
    return how if how in ("hangs", "raises") else f"is ended by {how}"


def _cpu(visit: Examination) -> list[Finding]:
    return [on_device(visit, "cpu", "cpu")]


def on_device(visit: Examination, name: str, device: str) -> Finding:
    """Compile, load and run something tiny on `device`."""
    env = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCH_WARM_POOL": "0"}
    package = visit.ask(
        "compile_package", str(visit.folder), device, timeout_s=600, env=env
    )
    error = visit.ask("run_package", package, device, timeout_s=300, env=env)
    # float32 of eight products: not even TF32 is off by so much.
    if not error < 1e-2:  # noqa: PLR2004  # NaN, too
        told = f"a tiny package runs on {device}, and is off by {error:g}"
        return Finding(
            name, BREAKS, told, "reinstall torch; if it stays, report it there"
        )
    return Finding(name, GOOD, f"a tiny package compiles, loads and runs on {device}")


def _execstack(visit: Examination) -> list[Finding]:
    there = visit.ask("compiler", str(visit.folder), timeout_s=300)
    refused = visit.ask("load", there["execstack"], timeout_s=60)
    package = visit.known("compile_package", str(visit.folder), "cpu")
    wants = package is None or visit.ask(
        "wants_executable_stack", package, timeout_s=60
    )
    if not wants:
        told = "packages that are made here want no executable stack"
        return [Finding("execstack", GOOD, told)]
    if not refused:
        told = (
            "libraries that want an executable stack load here, but not on glibc 2.41"
        )
        made = "" if package is None else ", and packages of this torch want one"
        return [Finding("execstack", NOTE, f"{told}{made}", _EXECSTACK)]
    level = NOTE if package is None else BREAKS
    return [Finding("execstack", level, f"not loaded here: {refused}", _EXECSTACK)]


CHECKS = (
    Check("python", "Python", _python, ""),
    Check("versions", "versions", _versions, "reinstall what is broken"),
    Check("tmpdir", "TMPDIR", _tmpdir, "set TMPDIR to a folder on a local disk"),
    Check(
        "disk", "disk", _disk, "set AOTI_CACHE and HF_HOME to folders on a local disk"
    ),
    Check("torch", "torch", _torch, "reinstall torch, in an environment of its own"),
    Check("compiler", "C++ compiler", _compiler, _GXX),
    Check("fork", "OpenMP after a fork", _fork, _FORK),
    Check(
        "cpu",
        "a tiny package on the CPU",
        _cpu,
        "look at what `--check compiler` says; "
        "if it is good, reinstall torch, and clear TORCHINDUCTOR_CACHE_DIR",
    ),
    Check("execstack", "executable stack", _execstack, _GXX),
)
