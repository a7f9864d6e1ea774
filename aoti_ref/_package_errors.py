"""What can be wrong with a package that is whole: it is for another machine.

AotiError
├── WrongHost               load, a call: made for another machine or release
└── NotInterchangeable      save_folder, adopt: the other layer has no such form
"""

from __future__ import annotations

from aoti_ref._errors import AotiError, Fault, table


class WrongHost(AotiError):
    """A package was made for another machine, or for another release of torch.

    >>> print(WrongHost("flux.pt2", (
    ...     Fault("version", "torch", "wants 2.12, found 2.13.0"),
    ...     Fault("machine", "machine", "wants aarch64, found x86_64"),
    ... )))
    flux.pt2 cannot be loaded here: it was made for something else
      version  torch    wants 2.12, found 2.13.0
      machine  machine  wants aarch64, found x86_64
    Compile it again on a machine like this one, or load it where it was made for.
    """

    def __init__(self, package: str, faults: tuple[Fault, ...]) -> None:
        super().__init__(package, faults)
        self.package = package
        self.faults = faults

    def __str__(self) -> str:
        return (
            f"{self.package} cannot be loaded here: it was made for something else\n"
            f"{table(self.faults)}\n"
            "Compile it again on a machine like this one, "
            "or load it where it was made for."
        )


class NotInterchangeable(AotiError):
    """A graph cannot be handed to another layer, or taken from it.

    >>> print(NotInterchangeable("blocks", "SingleBlock has 2 graphs, and may have 1"))
    blocks cannot be exchanged with spaces: SingleBlock has 2 graphs, and may have 1
    """

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, reason)
        self.what = what
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.what} cannot be exchanged with spaces: {self.reason}"
