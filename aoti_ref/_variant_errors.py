"""What can go wrong with variants, and who says so.

    AotiError
    ├── DeadVariant             compile_variants, CompiledVariants: it never answers
    ├── FailedVariants          compile_variants, apply: some of several graphs
    └── BadCall
        └── NoVariant           call: it is in the domain of no graph

They pickle, as all errors of the reference do.
"""

from __future__ import annotations

from typing import NamedTuple

from aoti_ref._errors import AotiError, BadCall, Fault, table


class Refusal(NamedTuple):
    """Why one of several graphs does not take a call.

    Args:
        domain: The calls that it takes.
        faults: What is wrong with this one.
    """

    domain: str
    faults: tuple[Fault, ...]


class NoVariant(BadCall):
    """A call is in the domain of none of the graphs of a module.

    >>> print(NoVariant("Net", (
    ...     Refusal("(x: float32[2])", (Fault("size", "x[0]", "wants 2, found 3"),)),
    ...     Refusal("(x: int64[3])", (Fault("dtype", "x", "wants int64"),)),
    ... )))
    Net: the call is in the domain of none of 2 graphs
    0: (x: float32[2])
      size  x[0]  wants 2, found 3
    1: (x: int64[3])
      dtype  x  wants int64
    """

    def __init__(self, module: str, refusals: tuple[Refusal, ...]) -> None:
        super().__init__(module, tuple(f for each in refusals for f in each.faults))
        self.args = module, refusals
        self.refusals = refusals

    def __str__(self) -> str:
        count = len(self.refusals)
        lines = [f"{self.module}: the call is in the domain of none of {count} graphs"]
        for number, refusal in enumerate(self.refusals):
            lines += [f"{number}: {refusal.domain}", table(refusal.faults)]
        return "\n".join(lines)


class DeadVariant(AotiError):
    """A graph would never be asked: those before it take all its calls.

    >>> print(DeadVariant("Net", 1, "(x: float32[4])", (
    ...     (0, "(x: float32[rows]), rows in 2..8"),
    ... )))
    Net: variant 1 would never answer a call: those before it take them all
      1: (x: float32[4])
      0: (x: float32[rows]), rows in 2..8
    Put it before them, or leave it out.
    """

    def __init__(
        self, module: str, number: int, domain: str, takers: tuple[tuple[int, str], ...]
    ) -> None:
        super().__init__(module, number, domain, takers)
        self.module = module
        self.number = number
        self.domain = domain
        self.takers = takers

    def __str__(self) -> str:
        head = f"{self.module}: variant {self.number} would never answer a call"
        lines = [f"{head}: those before it take them all"]
        lines += [
            f"  {n}: {text}" for n, text in ((self.number, self.domain), *self.takers)
        ]
        return "\n".join([*lines, "Put it before them, or leave it out."])


class FailedVariants(AotiError):
    """Some of several graphs cannot be made, or do not fit a module.

    >>> print(FailedVariants("Net", "cannot be compiled", (
    ...     Fault("NotExportable", "calls[1]", "Net cannot be exported: no"),
    ... )))
    Net: 1 variant cannot be compiled
      NotExportable  calls[1]  Net cannot be exported: no
    """

    def __init__(self, module: str, what: str, faults: tuple[Fault, ...]) -> None:
        super().__init__(module, what, faults)
        self.module = module
        self.what = what
        self.faults = faults

    def __str__(self) -> str:
        count = len(self.faults)
        many = "1 variant" if count == 1 else f"{count} variants"
        return f"{self.module}: {many} {self.what}\n{table(self.faults)}"
