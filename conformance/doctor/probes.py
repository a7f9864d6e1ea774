"""What children of the doctor try. Each returns facts, for JSON; it judges nothing."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

# torch's loader parses the name of its device with such an expression.
_SOURCE = """
#include <regex>
#include <string>
extern "C" int matches(const char* text) {
  static const std::regex device("([a-z]+)(:([0-9]+))?");
  return std::regex_match(std::string(text), device) ? 1 : 0;
}
"""
_FORK_S = 5.0


def torch_build() -> dict[str, Any]:
    """Import torch, and say how it was built."""
    import torch
    from torch import _inductor  # torch that has no AOTInductor fails here

    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "package": hasattr(_inductor, "aoti_compile_and_package"),
        "folder": str(Path(torch.__file__).parent),
    }


def gpus() -> dict[str, Any]:
    """List the GPUs that torch sees."""
    import torch

    there = torch.cuda.is_available()
    count = torch.cuda.device_count() if there else 0
    return {
        "available": there,
        "names": [torch.cuda.get_device_name(index) for index in range(count)],
    }


def compiler(folder: str) -> dict[str, Any]:
    """Find the compiler that Inductor will use, and build two small libraries."""
    from torch._inductor import cpp_builder

    command = cpp_builder.get_cpp_compiler()
    told = subprocess.run(  # noqa: S603
        [command, "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    source = Path(folder, "small.cpp")
    source.write_text(_SOURCE, encoding="utf-8")
    built = {}
    for name, options in (("plain", ()), ("execstack", ("-Wl,-z,execstack",))):
        built[name] = str(Path(folder, f"{name}.so"))
        done = subprocess.run(  # noqa: S603
            [
                *(command, "-std=c++17", "-shared", "-fPIC", *options),
                *(str(source), "-o", built[name]),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"{command} cannot build a library: {done.stderr}")
    version = told.stdout.partition("\n")[0]
    return {
        "command": shutil.which(command) or command,
        "version": version,
        "needed": needed(built["plain"]),
        **built,
    }


def needed(library: str) -> list[str]:
    """List the libraries that `library` is linked to."""
    from elftools.elf.elffile import ELFFile

    with Path(library).open("rb") as file:
        dynamic: Any = ELFFile(file).get_section_by_name(".dynamic")
        return [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")]


def call_beside_torch(library: str) -> int:
    """Load `library` where torch is loaded, and run its expression."""
    import torch  # noqa: F401  # it brings the other libstdc++

    return int(ctypes.CDLL(library).matches(b"cuda:1"))


def load(library: str) -> str:
    """Load `library`; return what the loader says if it does not want to."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return str(error)
    return ""


def wants_executable_stack(package: str) -> bool:
    """Whether a library in `package` asks for one; without the header it does."""
    import io
    import zipfile

    from elftools.elf.elffile import ELFFile

    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                elf = ELFFile(io.BytesIO(archive.read(name)))
                stacks = [
                    segment["p_flags"]
                    for segment in elf.iter_segments()
                    if segment["p_type"] == "PT_GNU_STACK"
                ]
                if not stacks or any(flags & 1 for flags in stacks):
                    return True
    return False


def folder(path: str) -> dict[str, Any]:
    """Look at a folder, or at the nearest one above it that is there."""
    there = Path(path)
    while not there.exists() and there != there.parent:
        there = there.parent
    writable = True
    try:
        with tempfile.NamedTemporaryFile(dir=there):
            pass
    except OSError:
        writable = False
    status = os.statvfs(there)
    return {
        "path": path,
        "exists": Path(path).is_dir(),
        "writable": writable,
        "noexec": bool(status.f_flag & os.ST_NOEXEC),
        "free_mib": status.f_bavail * status.f_frsize // 2**20,
        # A file system without inodes of its own says 0 of 0.
        "free_files": status.f_favail if status.f_files else None,
    }


def caches() -> list[str]:
    """List the folders that fill up."""
    home = Path("~").expanduser()
    user = Path(tempfile.gettempdir(), f"torchinductor_{os.getuid()}")
    named = {
        "AOTI_CACHE": home / ".cache" / "aoti-conformance",
        "TORCHINDUCTOR_CACHE_DIR": user,
        "HF_HOME": home / ".cache" / "huggingface",
    }
    return [os.environ.get(name) or str(path) for name, path in named.items()]


def forks() -> dict[str, Any]:
    """Compute in forked children: of a parent that did nothing, and of one that did."""
    import torch

    def compute() -> None:
        torch.ones(2**20).exp().sum()

    clean = _forked(compute)
    compute()
    maps = Path("/proc/self/maps")
    lines = maps.read_text(encoding="utf-8").splitlines() if maps.exists() else []
    names = {Path(line.split()[-1]).name for line in lines if "omp" in line}
    return {
        "threads": torch.get_num_threads(),
        "clean": clean,
        "after": _forked(compute),
        "runtimes": sorted(n for n in names if n.startswith(("libgomp", "libiomp"))),
    }


def _forked(function: Any) -> str:
    """Run `function` in a fork: `ok`, `hangs`, or what ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    deadline = time.monotonic() + _FORK_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return signal.Signals(os.WTERMSIG(status)).name
            return "ok" if status == 0 else "raises"
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"


def compile_package(folder: str, device: str) -> str:
    """Compile a tiny module for `device` with bare torch; return the package."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder, "inductor"))
    import torch
    from torch import nn

    torch.manual_seed(0)
    # They would be compiled for this one module, and cost three times as much.
    if hasattr(torch._inductor.config, "cpp_cache_precompile_headers"):  # noqa: SLF001
        torch._inductor.config.cpp_cache_precompile_headers = False  # noqa: SLF001
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval().to(device)
    argument = torch.ones(2, 8, device=device)
    package = Path(folder, f"{device.replace(':', '-')}.pt2")
    with torch.no_grad():
        program = torch.export.export(module, (argument,))
        torch._inductor.aoti_compile_and_package(  # noqa: SLF001
            program, package_path=str(package)
        )
        torch.save(module(argument).cpu(), package.with_suffix(".expected"))
    return str(package)


def run_package(package: str, device: str) -> float:
    """Load `package` in a process that compiled nothing; return its largest error."""
    import torch
    import torch._inductor.codecache  # torch 2.10.0 looks for it without importing it

    wanted = torch.load(Path(package).with_suffix(".expected"), weights_only=True)
    index = torch.device(device).index
    compiled = torch._inductor.aoti_load_package(  # noqa: SLF001
        package, device_index=-1 if index is None else index
    )
    answer = compiled(torch.ones(2, 8, device=device)).cpu()
    return float((answer - wanted).abs().max())
