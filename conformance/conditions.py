"""Where a known deviation holds: on some platforms, devices or versions only.

[CAP-03.when]
platform = "Linux-*-aarch64-*"     # as the header of a results file spells it
device = "cuda*"                   # what --aoti-device was
versions = { torch = ">=2.12,<2.14", python = "<3.13" }
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from conformance.environment import DISTRIBUTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_VERSIONED = (*DISTRIBUTIONS, "python")


class BadCondition(Exception):
    """A condition means nothing; the message says which part of it."""


@dataclass(frozen=True)
class Condition:
    """What an environment must be for an entry to be in force; all parts together.

    Args:
        platform: A pattern with `*` for the name of the platform.
        device: A pattern for the device that tests run on.
        versions: A specifier of PEP 440 for each distribution that matters.
    """

    platform: str = "*"
    device: str = "*"
    versions: tuple[tuple[str, str], ...] = ()

    def holds(self, environment: Mapping[str, Any]) -> bool:
        """Whether `environment`, of a header, is one that this speaks of.

        What is not installed has no version, and no specifier holds for it.
        """
        there = {**environment["versions"], "python": environment["python"]}
        device = environment.get("device", "cpu")
        return (
            fnmatchcase(environment["platform"].lower(), self.platform.lower())
            and fnmatchcase(device, self.device)
            and all(
                name in there and _contains(wanted, there[name])
                for name, wanted in self.versions
            )
        )


ALWAYS = Condition()


def condition(table: Any) -> Condition:
    """Read a table `when`.

    Raises:
        BadCondition: It means nothing.
    """
    if not isinstance(table, dict) or not table:
        raise BadCondition("must be a table of platform, device or versions")
    unknown = sorted(set(table) - {"platform", "device", "versions"})
    if unknown:
        raise BadCondition(f"has keys that mean nothing: {', '.join(unknown)}")
    patterns = {key: table.get(key, "*") for key in ("platform", "device")}
    for key, pattern in patterns.items():
        if not isinstance(pattern, str) or not pattern:
            raise BadCondition(f"needs words as its {key}")
    versions = table.get("versions", {})
    if not isinstance(versions, dict):
        raise BadCondition("must have a table of versions")
    for name, wanted in versions.items():
        _check_version(name, wanted)
    return Condition(**patterns, versions=tuple(versions.items()))


def apart(
    others: Iterable[Condition], environment: Mapping[str, Any]
) -> dict[str, Any]:
    """Give a table `when` that holds in `environment`, and nowhere that `others` do.

    Args:
        others: Conditions of which none holds in `environment`.
        environment: As the header of a results file has it.
    """
    asked = list(others)
    there = {**environment["versions"], "python": environment["python"]}
    table: dict[str, Any] = {"device": environment.get("device", "cpu")}
    if any(entry.platform != "*" for entry in asked):
        table["platform"] = environment["platform"]
    names = dict.fromkeys(name for entry in asked for name, _ in entry.versions)
    versions = {name: f"=={there[name]}" for name in names if name in there}
    return {**table, **({"versions": versions} if versions else {})}


def _check_version(name: str, wanted: Any) -> None:
    if name not in _VERSIONED:
        known = ", ".join(_VERSIONED)
        raise BadCondition(f"asks for the version of {name}, not of one of {known}")
    try:
        SpecifierSet(wanted if isinstance(wanted, str) else "")
    except InvalidSpecifier:
        wanted = ""
    if not wanted or not isinstance(wanted, str):
        raise BadCondition(f"needs a specifier as its version of {name}, as '>=2.12'")


def _contains(wanted: str, version: str) -> bool:
    return SpecifierSet(wanted).contains(version, prereleases=True)
