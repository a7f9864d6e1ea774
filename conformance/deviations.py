"""Known deviations of an implementation: what `expected/<name>.toml` says.

[CAP-03]
reason = "yields an empty call instead of raising"
see = "https://example.org/issues/1"
kind = "upstream"                  # or bug, flaky; optional
tests = ["test_capture_x[wan]"]    # only these; optional
when = { device = "cuda*" }        # only there; optional: see conditions.py

A clause that deviates in several ways has a table `[[CAP-03]]` for each; of those, one
at most may hold in an environment.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from conformance.conditions import ALWAYS, BadCondition, Condition, condition

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

KINDS = ("bug", "upstream", "flaky")
# So begins the reason, or what to see, of an entry that nobody has looked at.
UNREVIEWED = "unreviewed"
_SHOWN = 5


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
        when: Where this holds; everywhere, unless given.
    """

    clause: str
    reason: str
    see: str
    kind: str = "bug"
    tests: tuple[str, ...] = ()
    when: Condition = ALWAYS

    @property
    def note(self) -> str:
        """What the board says."""
        return f"{self.reason} ({self.see})"

    @property
    def reviewed(self) -> bool:
        """Whether a person has said what this is."""
        return not any(
            text.lower().startswith(UNREVIEWED) for text in (self.reason, self.see)
        )

    def covers(self, test: str) -> bool:
        """Whether this entry speaks of the test of its clause named `test`."""
        return not self.tests or test in self.tests


def read(
    path: Path, clauses: Collection[str], environment: Mapping[str, Any]
) -> dict[str, Deviation]:
    """Read the deviations at `path` that hold in `environment`, by clause.

    Args:
        path: The file.
        clauses: The ids that there are.
        environment: As the header of a results file has it.

    Raises:
        BadDeviations: The file cannot be read, an entry is not as it should be or
            was reviewed by nobody, or two of one clause hold here.
    """
    found = parse(path, text_of(path), clauses)
    unreviewed = list(dict.fromkeys(e.clause for e in found if not e.reviewed))
    if unreviewed:
        more = "" if len(unreviewed) <= _SHOWN else f" and {len(unreviewed) - _SHOWN}"
        names = ", ".join(unreviewed[:_SHOWN]) + more + (" more" if more else "")
        raise BadDeviations(
            f"{path}: nobody has reviewed {names}: say what happens there instead, as "
            f"the reason, and where that is written down, as see"
        )
    held: dict[str, Deviation] = {}
    for entry in found:
        if entry.when.holds(environment):
            if entry.clause in held:
                raise BadDeviations(
                    f"{path}: [[{entry.clause}]]: two of its entries hold here, "
                    f"{held[entry.clause].reason!r} and {entry.reason!r}"
                )
            held[entry.clause] = entry
    return held


def parse(path: Path, text: str, clauses: Collection[str]) -> list[Deviation]:
    """Read every entry of a file, whatever its condition and whoever reviewed it.

    Args:
        path: The file, to name it.
        text: What it says.
        clauses: The ids that there are.

    Raises:
        BadDeviations: It is no TOML, or an entry is not as it should be.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadDeviations(f"{path}: cannot be read ({error})") from error
    return [
        _entry(path, name, table, clauses)
        for name, entry in tables.items()
        for table in (entry if isinstance(entry, list) else [entry])
    ]


def text_of(path: Path) -> str:
    """Read a file.

    Raises:
        BadDeviations: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadDeviations(f"{path}: cannot be read ({error})") from error


def _entry(path: Path, name: str, table: Any, clauses: Collection[str]) -> Deviation:
    where = f"{path}: [{name}]"
    if name not in clauses:
        raise BadDeviations(f"{where}: SPEC.md has no {name}")
    if not isinstance(table, dict):
        raise BadDeviations(f"{where} must be a table")
    unknown = sorted(set(table) - {"reason", "see", "kind", "tests", "when"})
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
    try:
        when = condition(table["when"]) if "when" in table else ALWAYS
    except BadCondition as error:
        raise BadDeviations(f"{where}: when {error}") from error
    kind = table.get("kind", "bug")
    return Deviation(name, table["reason"], table["see"], kind, tuple(tests), when)


def digest(deviations: Mapping[str, Deviation]) -> str:
    """The sha256 of what is expected: two runs with the same one expected the same."""
    entries = [asdict(deviations[name]) for name in sorted(deviations)]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def strict(deviations: Mapping[str, Deviation]) -> list[str]:
    """List the clauses whose entry speaks of all their tests, and can go stale."""
    return [
        name
        for name, entry in deviations.items()
        if not entry.tests and entry.kind != "flaky"
    ]


def stale(
    expected: Collection[str], outcomes: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return those of the `expected` clauses of which no test deviates any more.

    Args:
        expected: Clauses with a strict entry.
        outcomes: Per clause, the outcomes of all its tests. Clauses of which not
            every test ran are left out, for nothing can be said of them.
    """
    return [name for name in expected if set(outcomes.get(name, ())) == {"pass"}]
