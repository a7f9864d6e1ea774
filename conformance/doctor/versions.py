"""Versions that are known to be broken, and those that the suite does not know."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from conformance.doctor.findings import BREAKS, GOOD, NOTE, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_EXTRAS = ("", "fp8", "kernels", "spaces", "test")


@dataclass(frozen=True)
class Known:
    """Versions with a defect that users of AOTInductor run into.

    Args:
        which: The distribution and its versions, as pip takes them.
        level: `breaks` or `note`.
        what: What is wrong with them.
        cure: What to do.
    """

    which: str
    level: str
    what: str
    cure: str


KNOWN = (
    Known(
        "torch<2.10",
        BREAKS,
        "torch.load(weights_only=True) can be made to run code (CVE-2026-24747), and "
        "AOTInductor lacks options that layers need",
        "pip install 'torch>=2.10'",
    ),
    Known(
        "torch==2.10.0",
        NOTE,
        "a process that compiled nothing cannot load a package: module "
        "'torch._inductor' has no attribute 'codecache' (pytorch #173706)",
        "import torch._inductor.codecache before you load",
    ),
)


def check_versions(ours: Callable[[], Iterable[str]] | None = None) -> list[Finding]:
    """Hold what is installed to the table, and to what the suite asks for."""
    found = [
        Finding(
            "versions", known.level, f"{_there(known.which)}: {known.what}", known.cure
        )
        for known in KNOWN
        if _is_installed(Requirement(known.which))
    ]
    wanted = [Requirement(text) for text in (ours or _ours)()]
    found += [
        Finding(
            "versions",
            NOTE,
            f"{_there(entry.name)}: the suite is written for {entry.specifier}",
            f"pip install '{entry.name}{entry.specifier}'",
        )
        for entry in wanted
        if _applies(entry)
        and _is_installed(Requirement(entry.name))
        and not _is_installed(entry)
    ]
    return found or [Finding("versions", GOOD, "no version is known to be broken")]


def _ours() -> list[str]:
    try:
        return requires("aoti-conformance") or []
    except PackageNotFoundError:  # a checkout
        return []


def _applies(entry: Requirement) -> bool:
    return entry.marker is None or any(
        entry.marker.evaluate({"extra": extra}) for extra in _EXTRAS
    )


def _is_installed(wanted: Requirement) -> bool:
    try:
        there = version(wanted.name)
    except PackageNotFoundError:
        return False
    return wanted.specifier.contains(there, prereleases=True)


def _there(which: str) -> str:
    name = Requirement(which).name
    return f"{name} {version(name)}"
