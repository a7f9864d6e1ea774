"""Processes that load a Stack: in folders of their own, and with ends of their own.

They are forked, which costs milliseconds, but where the end of an interpreter or the
start of one is what counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from conformance import isolated
from conformance.adapter import Call, Packages, load
from conformance.clauses._threads import assert_near
from conformance.models import blocks
from conformance.models.compiling import Layer, rows
from conformance.spec import blocked
from conformance.workbench import attempt, is_refusal, ran_compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import nn

    from conformance.cache import PackageCache

DEADLINE_S = 60
COMPILE_S = 300
_MS_NOEXEC, _MS_REC, _MS_PRIVATE = 8, 1 << 14, 1 << 18
_CLONE_NEWNS = 0x20000


def saved(impl: Packages, cache: PackageCache, folder: Path, seed: int) -> Path:
    """Save a compiled Stack in a new folder, and leave this process fit to fork.

    Its weights are those of `seed`, as of the modules that it is applied to: an
    implementation that keeps them in the package is no worse at this for it.
    """
    package = folder / "package"
    package.mkdir()

    def save() -> None:
        module = blocks.seeded(blocks.Stack, seed)
        impl.save(cache.compiled(module, blocks.call()), package)

    ending = isolated.run_forked(save, deadline_s=COMPILE_S)
    assert ending.kind == "answer", ending.text
    return package


def compiled_anew(
    impl: Packages,
    folder: Path,
    make: Callable[[], tuple[nn.Module, Call]] = lambda: (blocks.seeded(Layer), rows()),
    prepare: Callable[[], object] = lambda: None,
) -> Path:
    """Compile a Layer, or what `make` makes, in a child; save it, without the cache.

    What a compile writes down of its process is of this process then.

    Args:
        impl: Who compiles.
        folder: Where it is saved; made here.
        make: Makes the module and its call, in the child.
        prepare: What the child does first.
    """
    folder.mkdir()

    def compile_and_save() -> None:
        prepare()
        impl.save(impl.compile(impl.export(*make())), folder)

    ending = isolated.run_forked(compile_and_save, deadline_s=COMPILE_S)
    assert ending.kind == "answer", ending.text
    return folder


def want(seed: int, make: type[blocks.Stack] = blocks.Stack) -> Any:
    """Give the answer of an eager Stack of `seed`, as lists."""
    with torch.no_grad():
        return blocks.seeded(make, seed)(**blocks.call().kwargs)[0].tolist()


def applied(impl: Packages, package: Path, seed: int) -> nn.Module:
    """Load, and apply to a Stack of `seed`."""
    module = blocks.seeded(blocks.Stack, seed)
    impl.apply(impl.load(package), module)
    return module


def called(module: nn.Module) -> Any:
    """Call a Stack; its answer as lists."""
    with torch.no_grad(), ran_compiled(module):
        return module(**blocks.call().kwargs)[0].tolist()


def answer(impl: Packages, package: Path, seed: int) -> Any:
    """Load, apply to a Stack of `seed`, and call."""
    return called(applied(impl, package, seed))


def assert_right(found: Any, seed: int) -> None:
    """Assert that an answer is that of an eager Stack of `seed`."""
    __tracebackhide__ = True
    assert_near(torch.tensor(found), torch.tensor(want(seed)))


def move_to(temporary: Path | str) -> None:
    """Make `temporary` the folder for temporary files of this process."""
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None


@contextlib.contextmanager
def moved_to(temporary: Path) -> Iterator[Path]:
    """Make a folder that is the one for temporary files in the block."""
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    temporary.mkdir()
    move_to(temporary)
    try:
        yield temporary
    finally:
        os.environ.pop("TMPDIR")
        os.environ.update({"TMPDIR": before[0]} if before[0] else {})
        tempfile.tempdir = before[1]


def in_child(
    function: Callable[[], Any], temporary: Path | str, folder: Path | None = None
) -> Any:
    """Call `function` in a forked child with a TMPDIR of its own, in `folder`."""
    __tracebackhide__ = True

    def run() -> Any:
        os.chdir(folder or Path.cwd())
        move_to(temporary)
        return function()

    ending = isolated.run_forked(run, deadline_s=DEADLINE_S)
    assert ending.kind == "answer", ending.text
    return ending.answer


def killed(function: Callable[[], Any], *, after_s: float | None) -> None:
    """Have a forked child call `function`, and end it by SIGKILL or `os._exit`.

    Args:
        function: What it does.
        after_s: When it is killed; None has it leave by `os._exit` when it is done.
    """
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            function()
        if after_s is not None:
            time.sleep(DEADLINE_S)
        os._exit(0)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def fresh_answer(adapter: str, package: str, seed: int) -> Any:
    """Load and call in a fresh Python."""
    torch.set_num_threads(1)
    return answer(cast("Packages", load(adapter)), Path(package), seed)


def ends(adapter: str, package: str, temporary: str, seed: int) -> dict[str, Any]:
    """Have children of a fresh Python load, call and end, each in its own way.

    Returns:
        For each way what is left in the child's folder for temporary files.
    """
    torch.set_num_threads(1)
    impl = cast("Packages", load(adapter))
    left: dict[str, Any] = {}
    for way in ("end", "exit", "exception"):
        folder = Path(temporary) / way
        folder.mkdir()
        pid = os.fork()
        if pid == 0:
            move_to(folder)
            answer(impl, Path(package), seed)
            if way == "exception":
                raise ZeroDivisionError(way)
            sys.exit(int(way == "exit"))
        os.waitpid(pid, 0)
        left[way] = sorted(path.name for path in folder.iterdir())
    return left


def outcome(function: Callable[[], Any]) -> dict[str, Any]:
    """Tell what `function` gave, or in what words it refused."""
    ended = attempt(function)
    if ended.error is None:
        return {"value": ended.value, "words": None}
    if not is_refusal(ended.error):
        raise ended.error
    return {"value": None, "words": str(ended.error)}


def assert_right_or_named(found: Mapping[str, Any], seed: int, name: str) -> None:
    """Assert that an outcome is right, or that its words hold `name`."""
    __tracebackhide__ = True
    if found["words"] is None:
        assert_right(found["value"], seed)
    else:
        assert name in found["words"], found["words"]


@contextlib.contextmanager
def no_room(limit_bytes: int = 4096) -> Iterator[None]:
    """Let no file grow beyond a few bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mount_noexec(folder: Path) -> None:
    """Mount a small disk on `folder` that runs no code, for this process only."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(folder)
    steps: list[Callable[[], Any]] = [
        lambda: libc.unshare(_CLONE_NEWNS),
        lambda: libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None),
        lambda: libc.mount(b"none", target, b"tmpfs", _MS_NOEXEC, b"size=64m"),
    ]
    for step in steps:
        if step():
            blocked(f"mounting a disk: {os.strerror(ctypes.get_errno())}")
