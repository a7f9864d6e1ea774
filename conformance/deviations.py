"""Known deviations of an implementation: what `expected/<name>.toml` says.

[CAP-03]
reason = "yields an empty call instead of raising"
see = "https://example.org/issues/1"
kind = "upstream"                  # or bug, flaky; optional
tests = ["test_capture_x[wan]"]    # only these; optional
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

KINDS = ("bug", "upstream", "flaky")


class BadDeviations(Exception):
    """A file of known deviations cannot be used; the message is one sentence."""


@dataclass(frozen=True)
class Deviation:
    """One entry: the clause `clause`, or its tests `tests`, is known to be broken.

    Args:
        clause: The id of the clause.
        reason: What the implementation does instead.
        see: Where that is written down.
        kind: `bug` (its own), `upstream`, or `flaky` (sometimes; never stale).
        tests: Names of tests, with their parameters; none means the clause.
    """

    clause: str
    reason: str
    see: str
    kind: str = "bug"
    tests: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What the board says."""
        return f"{self.reason} ({self.see})"

    def covers(self, test: str) -> bool:
        """Whether this entry speaks of the test of its clause named `test`."""
        return not self.tests or test in self.tests


def read(path: Path, clauses: Collection[str]) -> dict[str, Deviation]:
    """Read the deviations at `path`, by clause; each must be one of `clauses`.

    Raises:
        BadDeviations: The file cannot be read, or an entry is not as it should be.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadDeviations(f"{path}: cannot be read ({error})") from error
    return {name: _entry(path, name, table, clauses) for name, table in tables.items()}


def _entry(path: Path, name: str, table: Any, clauses: Collection[str]) -> Deviation:
    where = f"{path}: [{name}]"
    if name not in clauses:
        raise BadDeviations(f"{where}: SPEC.md has no {name}")
    if not isinstance(table, dict):
        raise BadDeviations(f"{where} must be a table")
    unknown = sorted(set(table) - {"reason", "see", "kind", "tests"})
    if unknown:
        raise BadDeviations(f"{where} has keys that mean nothing: {', '.join(unknown)}")
    for key in ("reason", "see"):
        if not isinstance(table.get(key), str) or not table[key].strip():
            raise BadDeviations(f"{where} needs a {key}, in words")
    if table.get("kind", "bug") not in KINDS:
        raise BadDeviations(f"{where}: kind must be one of {', '.join(KINDS)}")
    tests = table.get("tests", [])
    if not isinstance(tests, list) or not all(isinstance(test, str) for test in tests):
        raise BadDeviations(f"{where}: tests must be a list of names of tests")
    return Deviation(
        name, table["reason"], table["see"], table.get("kind", "bug"), tuple(tests)
    )


def stale(
    deviations: Mapping[str, Deviation],
    outcomes: Mapping[str, Collection[str]],
) -> list[Deviation]:
    """Return the entries for whole clauses of which no test deviates any more.

    Args:
        deviations: The entries by clause.
        outcomes: Per clause, the outcomes of all its tests. Clauses of which not
            every test ran are left out, for nothing can be said of them.
    """
    return [
        entry
        for name, entry in deviations.items()
        if not entry.tests
        and entry.kind != "flaky"
        and set(outcomes.get(name, ())) == {"pass"}
    ]
