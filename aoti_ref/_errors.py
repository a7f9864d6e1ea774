"""What can go wrong, and who says so.

    AotiError
    ├── NeverCalled             capture: the block did not call the module
    ├── HookedModule            capture, apply, a call: what compiled code skips
    ├── TrainingMode            export, call: the module is in training mode
    ├── AutocastActive          export, call: autocast would change the graph
    ├── BrokenPackage           load: the file is not what `save` wrote
    ├── UnusableFolder          compile, a call: TMPDIR has no room, or runs no code
    ├── WeightMismatch          apply: the module cannot fill the constants
    ├── NotApplied              restore: there is nothing to undo
    ├── BadCall                 call: it breaks the contract
    ├── BadResult               call: compiled code returned what it did not promise
    ├── those of export, compile and regions   in _making_errors.py
    ├── those of variants       in _variant_errors.py
    ├── NotQuantizable          quantize: in _quantize.py
    ├── those of `gpu_task`     in _task_errors.py
    ├── those of packages       in _package_errors.py
    └── those of the Hub        in _hub_errors.py, of kernels in _kernel_errors.py

An error's `args` are its facts and `str` is its sentence, so errors pickle and
nobody needs to parse text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Fault(NamedTuple):
    """One thing that is wrong: its kind, where it is, and both sides of it."""

    kind: str
    name: str
    detail: str

    @classmethod
    def of(cls, name: str, error: Exception) -> Fault:
        """Make one of an error, in one line."""
        return cls(type(error).__name__, name, " ".join(str(error).split()))


def table(faults: Sequence[Fault]) -> str:
    """Align `faults` in columns, one to a line."""
    kinds = max(len(fault.kind) for fault in faults)
    names = max(len(fault.name) for fault in faults)
    return "\n".join(f"  {k:<{kinds}}  {n:<{names}}  {d}" for k, n, d in faults)


class AotiError(Exception):
    """Base of every error that this package raises on purpose."""


class NeverCalled(AotiError):
    """A capture's block ended without calling the module.

    >>> print(NeverCalled("FluxTransformer2DModel", "forward"))
    FluxTransformer2DModel.forward was not called in the capture block
    Is it the component that the pipeline runs? Some are only called at later steps.
    >>> print(NeverCalled("Net", "forward", ("blocks.0", "blocks.1")))
    Net.forward called none of blocks.0, blocks.1 in the capture block
    Is it the component that the pipeline runs? Some are only called at later steps.
    """

    def __init__(self, module: str, method: str, blocks: tuple[str, ...] = ()) -> None:
        super().__init__(module, method, blocks)
        self.module = module
        self.method = method
        self.blocks = blocks

    def __str__(self) -> str:
        called = f"called none of {', '.join(self.blocks)}"
        return (
            f"{self.module}.{self.method} "
            f"{called if self.blocks else 'was not called'} in the capture block\n"
            "Is it the component that the pipeline runs? "
            "Some are only called at later steps."
        )


class HookedModule(AotiError):
    """A module has hooks, or children, that compiled code would skip.

    >>> print(HookedModule("Block", ("proj: _forward_hooks", "out: Lora for Linear")))
    Block has what compiled code would skip: proj: _forward_hooks, out: Lora for Linear
    Remove it first, or compile the module as it is now.
    """

    def __init__(self, module: str, hooks: tuple[str, ...]) -> None:
        super().__init__(module, hooks)
        self.module = module
        self.hooks = hooks

    def __str__(self) -> str:
        return (
            f"{self.module} has what compiled code would skip: "
            f"{', '.join(self.hooks)}\n"
            "Remove it first, or compile the module as it is now."
        )


class TrainingMode(AotiError):
    """The module trains: dropout and running statistics would be baked in.

    >>> print(TrainingMode("Net", ("", "drop")))
    Net is in training mode (itself, drop)
    Call .eval() first: compiled code keeps the mode that it was exported in.
    """

    def __init__(self, module: str, parts: tuple[str, ...]) -> None:
        super().__init__(module, parts)
        self.module = module
        self.parts = parts

    def __str__(self) -> str:
        parts = ", ".join(part or "itself" for part in self.parts[:5])
        more = f" and {len(self.parts) - 5} more" if len(self.parts) > 5 else ""  # noqa: PLR2004
        return (
            f"{self.module} is in training mode ({parts}{more})\n"
            "Call .eval() first: compiled code keeps the mode that it was exported in."
        )


class AutocastActive(AotiError):
    """Autocast is on, and compiled code would not follow it.

    >>> print(AutocastActive("export", "cpu"))
    export: autocast is enabled for cpu, and compiled code cannot follow it
    Leave the autocast block, or cast the module itself.
    """

    def __init__(self, stage: str, device: str) -> None:
        super().__init__(stage, device)
        self.stage = stage
        self.device = device

    def __str__(self) -> str:
        return (
            f"{self.stage}: autocast is enabled for {self.device}, "
            "and compiled code cannot follow it\n"
            "Leave the autocast block, or cast the module itself."
        )


class Because(AotiError):
    """Something failed on a subject, for a reason that another library gave."""

    what = "{} failed"

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(subject, reason)
        self.subject = subject
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.what.format(self.subject)}: {self.reason}"


class BrokenPackage(Because):
    """A package is damaged, incomplete, or of another format or torch.

    >>> print(BrokenPackage("flux.pt2", "not a zip file"))
    flux.pt2 cannot be loaded: not a zip file
    """

    what = "{} cannot be loaded"


class BadResult(Because):
    """Compiled code returned something other than it was compiled to return.

    >>> print(BadResult("Net", "output 0 should be float32, came as float64"))
    Net returned a wrong result: output 0 should be float32, came as float64
    """

    what = "{} returned a wrong result"


class WeightMismatch(AotiError):
    """A module cannot fill the constants that a package asks for.

    >>> print(WeightMismatch("Linear", 3, (
    ...     Fault("missing", "bias", "wants float32[2]"),
    ...     Fault("dtype", "weight", "wants float32[2, 4], found float16[2, 4]"),
    ... )))
    Linear: 2 of 3 constants cannot be filled from this module
      missing  bias    wants float32[2]
      dtype    weight  wants float32[2, 4], found float16[2, 4]
    Was it compiled from another checkpoint? Compile it again from this module.
    """

    def __init__(self, module: str, total: int, faults: tuple[Fault, ...]) -> None:
        super().__init__(module, total, faults)
        self.module = module
        self.total = total
        self.faults = faults

    def __str__(self) -> str:
        head = (
            f"{self.module}: {len(self.faults)} of {self.total} constants "
            "cannot be filled from this module"
        )
        hint = (
            "Was it compiled from another checkpoint? "
            "Compile it again from this module."
        )
        return f"{head}\n{table(self.faults)}\n{hint}"


class UnusableFolder(AotiError):
    """The folder for temporary files cannot hold a compiled graph.

    >>> print(UnusableFolder("/tmp", "it is mounted noexec"))
    /tmp cannot hold a compiled graph: it is mounted noexec
    Set TMPDIR to a folder that can be written to, has room, and may run code.
    """

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(folder, reason)
        self.folder = folder
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.folder} cannot hold a compiled graph: {self.reason}\n"
            "Set TMPDIR to a folder that can be written to, has room, and may run code."
        )


class NotApplied(AotiError):
    """There is no compiled model on this method to take off.

    >>> print(NotApplied("Net", "forward"))
    Net.forward runs no compiled model, so there is nothing to restore
    """

    def __init__(self, module: str, method: str) -> None:
        super().__init__(module, method)
        self.module = module
        self.method = method

    def __str__(self) -> str:
        what = f"{self.module}.{self.method}"
        return f"{what} runs no compiled model, so there is nothing to restore"


class BadCall(AotiError):
    """A call breaks the contract under which the module was compiled.

    >>> print(BadCall("Net", (
    ...     Fault("dtype", "x", "wants float32, found float64"),
    ...     Fault("value", "flag", "wants False, found True"),
    ... )))
    Net: the call breaks its contract in 2 places
      dtype  x     wants float32, found float64
      value  flag  wants False, found True
    """

    def __init__(self, module: str, faults: tuple[Fault, ...]) -> None:
        super().__init__(module, faults)
        self.module = module
        self.faults = faults

    def __str__(self) -> str:
        places = "1 place" if len(self.faults) == 1 else f"{len(self.faults)} places"
        head = f"{self.module}: the call breaks its contract in {places}"
        return f"{head}\n{table(self.faults)}"
