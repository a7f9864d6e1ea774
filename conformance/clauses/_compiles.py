"""What a compile leaves behind, and what a package holds."""

from __future__ import annotations

import copy
import io
import os
import struct
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch._dynamo.config
import torch._functorch.config
import torch._inductor.config
from torch.utils import _pytree as pytree

from conformance.adapter import Refused, load
from conformance.models.blocks import seeded
from conformance.models.compiling import Layer, rows
from conformance.spec import blocked
from conformance.workbench import attempt, is_refusal, ran_compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn

    from conformance.adapter import Call, Packages
    from conformance.workbench import Pair

WINDOW_BYTES = 64
_EM_CUDA = 190
_PT_GNU_STACK = 0x6474E551
_PF_X = 1


def surroundings() -> dict[str, Any]:
    """Note what belongs to the process and not to a compile, by name."""
    configs = {
        "inductor": torch._inductor.config,
        "dynamo": torch._dynamo.config,
        "functorch": torch._functorch.config,
    }
    found = {
        f"{name}.{key}": copy.copy(value)
        for name, config in configs.items()
        for key, value in config.get_config_copy().items()
    }
    backends = {
        "cudnn": ("enabled", "benchmark", "deterministic", "allow_tf32"),
        "mkldnn": ("enabled", "deterministic"),
    }
    for name, flags in backends.items():
        backend = getattr(torch.backends, name)
        found |= {f"{name}.{flag}": getattr(backend, flag) for flag in flags}
    found |= {f"environ.{key}": value for key, value in os.environ.items()}
    return found | {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "threads": torch.get_num_threads(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "random state": torch.get_rng_state().tolist(),
        "working directory": str(Path.cwd()),
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Name what is not as it was."""
    names = sorted(before.keys() | after.keys())
    gone = object()
    return [n for n in names if before.get(n, gone) != after.get(n, gone)]


def compile_that_fails(adapter: str) -> dict[str, Any]:
    """Compile a Layer where that cannot end well, in a process of its own.

    Returns:
        failed: Whether the compile ended by an error.
        refused: Whether the implementation said no.
        words: What it said, or what happened instead.
        changed: The names of the surroundings that it changed.
        left: Files and folders that it left in the folder for temporary files.
        usable: Whether the module still answers, with the weights that it had.
    """
    impl = load(adapter)
    module, call = seeded(Layer), rows()
    with torch.no_grad():
        expected = module(*call.args)
    exported = impl.export(module, call)
    folder = Path(tempfile.gettempdir())
    files, before = set(folder.rglob("*")), surroundings()
    made = attempt(lambda: impl.compile(exported))
    changed = differences(before, surroundings())
    left = sorted(str(f.relative_to(folder)) for f in set(folder.rglob("*")) - files)
    with torch.no_grad():
        usable = torch.equal(module(*call.args), expected)
    return {
        "failed": made.error is not None,
        "refused": isinstance(made.error, Refused),
        "words": str(made.error) if made.error else f"it was compiled: {made.value!r}",
        "changed": changed,
        "left": left,
        "usable": usable,
    }


def run_saved(adapter: str, folder: str, seed: int) -> Any:
    """Load a saved Layer, apply it, call it once: float32[rows, 16] as lists."""
    impl = cast("Packages", load(adapter))
    module = seeded(Layer, seed)
    impl.apply(impl.load(Path(folder)), module)
    with torch.no_grad(), ran_compiled(module):
        return module(*rows(seed=seed).args).tolist()


def assert_same_history(make: Callable[[], Pair], calls: Iterable[Call]) -> None:
    """Assert that calls in a row leave what eager leaves, or that one is refused.

    Answers, arguments and buffers are compared bit by bit, so the numbers must be
    such that sums of them have no rounding.

    Args:
        make: Exports, compiles and applies; it may be refused too.
        calls: What both modules are called with, on copies that share memory
            where the originals do.
    """
    __tracebackhide__ = True
    try:
        twins = make()
    except Refused:
        return
    for number, call in enumerate(calls, 1):
        theirs, ours = (copy.deepcopy((call.args, dict(call.kwargs))) for _ in range(2))
        with torch.no_grad():
            expected = twins.eager(*theirs[0], **theirs[1])
            actual = attempt(lambda given=ours: twins.applied(*given[0], **given[1]))  # type: ignore[misc]
        if actual.error is not None:
            if not is_refusal(actual.error):
                raise actual.error
            return
        _assert_equal(f"the answer to call {number}", actual.value, expected)
        _assert_equal(f"the arguments after call {number}", ours, theirs)
        buffers = (dict(m.named_buffers()) for m in (twins.applied, twins.eager))
        _assert_equal(f"the buffers after call {number}", *buffers)


def _assert_equal(what: str, actual: Any, expected: Any) -> None:
    __tracebackhide__ = True
    got, want = (pytree.tree_leaves(tree) for tree in (actual, expected))
    same = len(got) == len(want) and all(
        a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
        for a, b in zip(got, want, strict=True)
    )
    assert same, f"{what}: found {got}, eager has {want}"


def refused_or(compile_: Callable[[], Any], judge: Callable[[Any], None]) -> None:
    """Assert that compiling is refused, or that `judge` likes what came of it."""
    __tracebackhide__ = True
    try:
        compiled = compile_()
    except Refused:
        return
    judge(compiled)


def files_of(folder: Path) -> dict[str, bytes]:
    """Read everything in a package: its files, and the members of its zip archives."""
    found: dict[str, bytes] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found |= _unpacked(str(path.relative_to(folder)), path.read_bytes())
    return found


def _unpacked(name: str, data: bytes) -> dict[str, bytes]:
    found = {name: data}
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.namelist():
                found |= _unpacked(f"{name}:{entry}", archive.read(entry))
    return found


def size_bytes(folder: Path) -> int:
    """Add up the sizes of the files in `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def libraries(folder: Path) -> dict[str, bytes]:
    """Find the shared libraries in a package, by what they are and not by name."""
    return {name: data for name, data in files_of(folder).items() if _is_ours(data)}


def _is_ours(data: bytes) -> bool:
    """Whether this is an ELF64 file for a CPU: GPU code has no stack to ask for."""
    if data[:6] != b"\x7fELF\x02\x01":  # 64 bit, little endian
        return False
    (machine,) = struct.unpack_from("<H", data, 18)
    return bool(machine != _EM_CUDA)


def wants_executable_stack(library: bytes) -> bool:
    """Read from the program headers of an ELF64 file what its stack must be."""
    (table,) = struct.unpack_from("<Q", library, 32)
    entry_size, count = struct.unpack_from("<HH", library, 54)
    headers = (
        struct.unpack_from("<II", library, table + index * entry_size)
        for index in range(count)
    )
    flags = [flags for kind, flags in headers if kind == _PT_GNU_STACK]
    # Without the header the loader assumes the worst.
    return not flags or any(flag & _PF_X for flag in flags)


def weights_in(folder: Path, module: nn.Module) -> list[str]:
    """Name the parameters and buffers whose values can be read in a package.

    A tensor of 64 bytes or more counts as found with any 64 of them; a smaller
    one when each of its elements is found, as bytes or in decimal.
    """
    held = list(files_of(folder).values())
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return [name for name, tensor in tensors.items() if _is_in(held, tensor)]


def _is_in(held: list[bytes], tensor: torch.Tensor) -> bool:
    raw = bytes(tensor.detach().reshape(-1).view(torch.uint8).tolist())
    if len(raw) >= WINDOW_BYTES:
        starts = range(0, len(raw) - WINDOW_BYTES + 1, WINDOW_BYTES)
        windows = {raw[start : start + WINDOW_BYTES] for start in starts}
        return any(window in data for window in windows for data in held)
    size = tensor.element_size()
    elements = [raw[start : start + size] for start in range(0, len(raw), size)]
    texts = [repr(value).encode() for value in tensor.reshape(-1).tolist()]
    return all(
        any(element in data or text in data for data in held)
        for element, text in zip(elements, texts, strict=True)
    )


def lingering_processes(within_s: float = 5) -> list[str]:
    """Name the living processes that this one has started, once `within_s` is over.

    They are its descendants, and whoever else is in its session.
    """
    deadline = time.monotonic() + within_s
    while (found := sorted(_started())) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _started() -> Iterator[str]:
    if not Path("/proc/self/stat").exists():
        blocked("only Linux tells which processes there are in /proc")
    me, session = os.getpid(), os.getsid(0)
    ours = {me}
    for pid, name, parent, its_session in sorted(_processes()):
        if pid != me and (parent in ours or its_session == session):
            ours.add(pid)
            yield f"{name} ({pid})"


def _processes() -> Iterator[tuple[int, str, int, int]]:
    """Give number, name, parent and session of every process that is not dead."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text(errors="replace")
        except OSError:  # it ended in between
            continue
        head, _, tail = text.rpartition(")")
        state, parent, _, session = tail.split()[:4]
        if state != "Z":
            pid, _, name = head.partition(" (")
            yield int(pid), name, int(parent), int(session)
