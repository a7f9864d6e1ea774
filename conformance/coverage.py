"""Which clause is for which failure mode: `failure_modes.toml` against SPEC.md.

python -m conformance.coverage --write docs/coverage.md
python -m conformance.coverage --check docs/coverage.md
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance import spec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MODES = Path(__file__).with_name("failure_modes.toml")

# The first letter of an id, in the order in which a model passes through them.
STAGES: Mapping[str, str] = {
    "H": "the harness",
    "C": "capture",
    "E": "export",
    "K": "compile",
    "L": "constants, load, apply",
    "R": "calls",
    "D": "dynamic shapes",
    "M": "memory",
    "P": "processes and threads",
    "Q": "quantisation",
    "G": "repeated blocks",
    "X": "several graphs",
    "A": "packages and the Hub",
    "S": "trust",
}

# Chapters that are planned, beside those that SPEC.md has.
PLANNED = (
    "MEM",
    "PRC",
    "QNT",
    "REG",
    "VAR",
    "KRN",
    "PKG",
    "HUB",
    "SEC",
)

_KEYS = {"title", "out", "later", "because"}


class BrokenCoverage(Exception):
    """Failure modes and clauses do not fit together; `problems` says where."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


@dataclass(frozen=True)
class Mode:
    """A way in which things go wrong.

    Args:
        id: A letter of STAGES and a number.
        title: What goes wrong, in a few words.
        out: Why no clause is for it; empty if one is, or will be.
        later: The chapter that will cover it, or the rest of it.
        because: Why it is put off, or what the rest is.
    """

    id: str
    title: str
    out: str = ""
    later: str = ""
    because: str = ""


def read(text: str) -> dict[str, Mode]:
    """Read the text of a `failure_modes.toml`, by id, in its order.

    Raises:
        BrokenCoverage: A table has keys that mean nothing, or lacks its title.
    """
    tables: dict[str, dict[str, Any]] = tomllib.loads(text)
    problems = []
    for name, table in tables.items():
        if not (name[:1] in STAGES and name[1:].isdecimal()):
            problems.append(f"{name} is no id: a letter of {''.join(STAGES)}, a number")
        problems += [f"{name} has {key!r}" for key in sorted(table.keys() - _KEYS)]
        if not table.get("title"):
            problems.append(f"{name} has no title")
    _raise(problems)
    return {name: Mode(name, **table) for name, table in tables.items()}


def covering(clauses: Iterable[spec.Clause]) -> dict[str, list[str]]:
    """List the clauses that cover each failure mode, by the id of the mode."""
    found: dict[str, list[str]] = {}
    for clause in clauses:
        for name in clause.covers:
            found.setdefault(name, []).append(clause.id)
    return found


def check(
    modes: Mapping[str, Mode],
    clauses: Mapping[str, spec.Clause],
    chapters: Iterable[str],
) -> None:
    """Hold failure modes, clauses and promises against each other.

    Raises:
        BrokenCoverage: All that does not fit, a sentence each.
    """
    found = covering(clauses.values())
    written = set(chapters)
    problems = [
        f"{clause.id} covers {name}, which failure_modes.toml does not have"
        for clause in clauses.values()
        for name in clause.covers
        if name not in modes
    ]
    for mode in modes.values():
        mine = found.get(mode.id, [])
        problems += _faults(mode, mine, written)
    _raise(problems)


def _faults(mode: Mode, covered: list[str], written: set[str]) -> list[str]:
    by = ", ".join(covered)
    kept = mode.later in {name[:3] for name in covered}
    faults = [
        (
            not (covered or mode.out or mode.later),
            "has no clause, no `out`, no `later`",
        ),
        (bool(covered and mode.out), f"is `out`, and covered by {by}"),
        (bool(mode.later and mode.out), "is both `out` and `later`"),
        (bool(mode.because and not mode.later), "has a `because` without `later`"),
        (
            bool(mode.later) and mode.later not in {*PLANNED, *written},
            f"is put off to {mode.later}, and there is no such chapter",
        ),
        (
            mode.later in written and not kept,
            f"is put off to {mode.later}, which is written and does not cover it",
        ),
    ]
    return [f"{mode.id} ({mode.title}) {fault}" for wrong, fault in faults if wrong]


def table() -> str:
    """Write the table of this package's failure modes, as Markdown.

    Raises:
        BrokenCoverage: It would be a lie.
    """
    modes = read(MODES.read_text(encoding="utf-8"))
    clauses, chapters = spec.catalogue(), spec.chapters()
    check(modes, clauses, chapters)
    return render(modes, covering(clauses.values()), chapters)


def render(
    modes: Mapping[str, Mode],
    covered: Mapping[str, list[str]],
    written: Iterable[str],
) -> str:
    """Write the table, as Markdown, from what `check` has passed."""
    chapters = set(written)
    behind = sum(name in covered for name in modes)
    out = sum(bool(mode.out) for mode in modes.values())
    left = len(modes) - behind - out
    counts = f"{behind} behind clauses, {out} out of scope, {left} left for later"
    lines = [
        "# Which failure mode is behind which clause",
        "",
        "Generated by `python -m conformance.coverage --write docs/coverage.md` from",
        "`conformance/failure_modes.toml` and the *Covers* lines of",
        "[SPEC.md](../conformance/SPEC.md).",
        "",
        f"{len(modes)} failure modes: {counts}.",
    ]
    for letter, group in itertools.groupby(modes.values(), lambda mode: mode.id[0]):
        lines += [
            "",
            f"## {letter}: {STAGES[letter]}",
            "",
            "| id | what goes wrong | clauses |",
            "|---|---|---|",
        ]
        lines += [
            f"| {mode.id} | {mode.title} | {_cell(mode, covered, chapters)} |"
            for mode in group
        ]
    return "\n".join(lines) + "\n"


def _cell(mode: Mode, covered: Mapping[str, list[str]], written: set[str]) -> str:
    if mode.out:
        return f"out of scope: {mode.out}"
    parts = [", ".join(covered.get(mode.id, []))]
    if mode.later and mode.later not in written:
        because = f" ({mode.because})" if mode.because else ""
        parts.append(f"later: {mode.later}{because}")
    return "; ".join(part for part in parts if part)


def main(arguments: list[str] | None = None) -> int:
    """Write the table, or compare it; 1 where something does not fit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE", help="write the table")
    what.add_argument("--check", type=Path, metavar="FILE", help="is FILE up to date?")
    options = parser.parse_args(arguments)
    try:
        made = table()
    except (BrokenCoverage, spec.BrokenSpec) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(made, encoding="utf-8")
        return 0
    path: Path = options.check
    if path.is_file() and path.read_text(encoding="utf-8") == made:
        return 0
    again = f"python -m conformance.coverage --write {path}"
    sys.stderr.write(f"{path} is not up to date: {again}\n")
    return 1


def _raise(problems: list[str]) -> None:
    if problems:
        raise BrokenCoverage(tuple(problems))


if __name__ == "__main__":
    sys.exit(main())
