"""What can go wrong while a graph is exported and compiled, and who says so.

AotiError
├── UnknownArgument     export: a range for an argument that is not there
├── BadRange            export: a range that the example call contradicts
├── NotExportable       export: torch.export says no
├── NarrowedRange       export: the graph admits less than was asked for
├── UnknownOption       compile: Inductor has no such option
├── ConflictingOption   compile: an option that would undo a promise
├── NotCompilable       compile: what the graph holds, or Inductor, says no
├── NoBlocks            capture_regions, load: no block of a module matches
└── FailedBlocks        compile_regions, apply: blocks that no graph is for
"""

from __future__ import annotations

from aoti_ref._errors import AotiError, Because, Fault, table


class UnknownArgument(AotiError):
    """A range was given for an argument that the module does not take.

    >>> print(UnknownArgument("hidden_dim", ("hidden_states", "timestep")))
    dynamic: no argument is named 'hidden_dim' (there are: hidden_states, timestep)
    """

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        known = ", ".join(self.known)
        return f"dynamic: no argument is named {self.name!r} (there are: {known})"


class BadRange(AotiError):
    """A range does not fit the example call, or is not a range.

    >>> print(BadRange("hidden_states[1]", "a Dim, or (min, max)", "{4096, 8192}"))
    dynamic: hidden_states[1] wants a Dim, or (min, max), found {4096, 8192}
    """

    def __init__(self, where: str, wanted: str, found: str) -> None:
        super().__init__(where, wanted, found)
        self.where = where
        self.wanted = wanted
        self.found = found

    def __str__(self) -> str:
        return f"dynamic: {self.where} wants {self.wanted}, found {self.found}"


class NotExportable(Because):
    """torch.export cannot make a graph of the module.

    >>> print(NotExportable("Net", "Unsupported operator: toy::twist"))
    Net cannot be exported: Unsupported operator: toy::twist
    """

    what = "{} cannot be exported"


class NotCompilable(Because):
    """The exported graph cannot be compiled.

    >>> print(NotCompilable("Net", "no C++ compiler was found"))
    Net cannot be compiled: no C++ compiler was found
    """

    what = "{} cannot be compiled"


class NoBlocks(AotiError):
    """A module has no block of a name that was given, or none that is repeated.

    >>> print(NoBlocks("Net", ("FluxBlock",), ("Block", "Linear")))
    Net has no block 'FluxBlock' (its classes are: Block, Linear)
    >>> print(NoBlocks("Net", (), ("Block", "Linear")))
    Net has no repeated blocks: name their classes (Block, Linear)
    """

    def __init__(
        self, module: str, wanted: tuple[str, ...], known: tuple[str, ...]
    ) -> None:
        super().__init__(module, wanted, known)
        self.module = module
        self.wanted = wanted
        self.known = known

    def __str__(self) -> str:
        known = ", ".join(self.known)
        if not self.wanted:
            return f"{self.module} has no repeated blocks: name their classes ({known})"
        wanted = ", ".join(repr(name) for name in self.wanted)
        return f"{self.module} has no block {wanted} (its classes are: {known})"


class FailedBlocks(AotiError):
    """Blocks of a module that no graph was made for, or that theirs does not fit.

    >>> print(FailedBlocks("Net", "cannot be compiled", (
    ...     Fault("NeverCalled", "blocks.3", "Block was not called"),
    ... )))
    Net: 1 block cannot be compiled
      NeverCalled  blocks.3  Block was not called
    """

    def __init__(self, module: str, what: str, faults: tuple[Fault, ...]) -> None:
        super().__init__(module, what, faults)
        self.module = module
        self.what = what
        self.faults = faults

    def __str__(self) -> str:
        names = {fault.name for fault in self.faults}
        count = "1 block" if len(names) == 1 else f"{len(names)} blocks"
        return f"{self.module}: {count} {self.what}\n{table(self.faults)}"


class NarrowedRange(AotiError):
    """The graph admits fewer sizes than were asked for.

    >>> print(NarrowedRange((Fault("range", "tokens", "wants 4..64, got 8..64"),)))
    dynamic: the graph admits fewer sizes than were asked for
      range  tokens  wants 4..64, got 8..64
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        head = "dynamic: the graph admits fewer sizes than were asked for"
        return f"{head}\n{table(self.faults)}"


class UnknownOption(AotiError):
    """Inductor has no option of that name.

    >>> print(UnknownOption(("max_autotone",), ("max_autotune",)))
    options: Inductor has no 'max_autotone' (did you mean 'max_autotune'?)
    """

    def __init__(self, names: tuple[str, ...], close: tuple[str, ...]) -> None:
        super().__init__(names, close)
        self.names = names
        self.close = close

    def __str__(self) -> str:
        names = ", ".join(repr(name) for name in self.names)
        near = ", ".join(repr(name) for name in self.close)
        hint = f" (did you mean {near}?)" if self.close else ""
        return f"options: Inductor has no {names}{hint}"


class ConflictingOption(AotiError):
    """An option would undo what a package promises.

    >>> print(ConflictingOption("aot_inductor.package", True, False))
    options: 'aot_inductor.package' must stay True, found False
    """

    def __init__(self, name: str, wanted: object, found: object) -> None:
        super().__init__(name, wanted, found)
        self.name = name
        self.wanted = wanted
        self.found = found

    def __str__(self) -> str:
        return f"options: {self.name!r} must stay {self.wanted!r}, found {self.found!r}"
