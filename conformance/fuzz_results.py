"""What a fuzz found, as a file: JSON Lines `aoti-conformance-fuzz/1`.

Its lines: a header, every finding that is not clean, and a footer with the counts.
The file is written at the end, whole.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from conformance import lines, writing
from conformance.lines import BrokenResults
from conformance.places import without_places

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

FORMAT = "aoti-conformance-fuzz/1"

EQUAL, REFUSED = "equal", "refused"
WRONG, UNNAMED, FALSE = "wrong", "unnamed", "false refusal"
CRASHED = "crashed"
LEFT = "files left"  # after a refusal of a package
OUTCOMES = (EQUAL, REFUSED, FALSE, UNNAMED, WRONG, CRASHED, LEFT)
CLEAN = (EQUAL, REFUSED)

_DETAIL_CHARACTERS = 600

_TEXT = {"type": "string"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_COUNTS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "propertyNames": {"enum": list(OUTCOMES)},
        "additionalProperties": {"type": "integer", "minimum": 0},
    },
}


def _object(**properties: Any) -> dict[str, Any]:
    """Give the schema of an object that has these, and may have others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


_SCHEMAS = {
    "header": _object(
        format={"const": FORMAT},
        implementation=_object(name=_TEXT, version=_TEXT),
        environment=_object(versions=_TEXTS),
        not_compiled=_TEXTS,
    ),
    "finding": _object(
        subject=_TEXT,
        perturbation=_TEXT,
        outcome={"enum": list(OUTCOMES)},
        detail=_TEXT,
        command=_TEXT,
    ),
    "footer": _object(perturbations=_COUNTS, subjects=_COUNTS),
}


class Case(NamedTuple):
    """One call of a fuzz: a subject's good call, perturbed; `seed` gives it again."""

    subject: str
    kind: str
    seed: int


class Finding(NamedTuple):
    """A case, what became of it (one of OUTCOMES), and the reason."""

    case: Case
    outcome: str
    detail: str = ""


class Tally:
    """Counts findings by perturbation and by subject."""

    def __init__(self) -> None:
        self.by_kind: dict[str, Counter[str]] = {}
        self.by_subject: dict[str, Counter[str]] = {}

    def add(self, finding: Finding) -> None:
        """Count a finding."""
        for table, name in (
            (self.by_kind, finding.case.kind),
            (self.by_subject, finding.case.subject),
        ):
            table.setdefault(name, Counter())[finding.outcome] += 1

    @property
    def total(self) -> Counter[str]:
        """All findings by outcome."""
        return sum(self.by_subject.values(), Counter())

    @property
    def clean(self) -> bool:
        """Whether every call was equal, or refused for a reason."""
        return not set(self.total) - set(CLEAN)


@dataclass(frozen=True)
class FuzzRun:
    """One file.

    Args:
        header: Implementation, environment, seed, and what was not compiled.
        findings: All that is not clean, as the file has it.
        tally: The counts.
    """

    header: dict[str, Any]
    findings: list[dict[str, Any]]
    tally: Tally

    @property
    def name(self) -> str:
        """The implementation and its version."""
        made = self.header["implementation"]
        return f"{made['name']} {made['version']}"


def write(
    path: Path,
    header: dict[str, Any],
    findings: Iterable[Finding],
    tally: Tally,
    repeat: Callable[[Case], str],
) -> None:
    """Write a file, or leave the one that is there.

    Args:
        path: Where.
        header: What `FuzzRun` has.
        findings: Those that are clean are counted only.
        tally: The counts.
        repeat: Gives the command that makes a call again.

    Raises:
        OSError: It cannot be written.
    """
    content: list[dict[str, Any]] = [{"kind": "header", "format": FORMAT, **header}]
    content += [
        {
            "kind": "finding",
            "subject": found.case.subject,
            "perturbation": found.case.kind,
            "outcome": found.outcome,
            "detail": without_places(found.detail)[:_DETAIL_CHARACTERS],
            "command": repeat(found.case),
        }
        for found in findings
        if found.outcome not in CLEAN
    ]
    content.append(
        {
            "kind": "footer",
            "counts": dict(tally.total),
            "perturbations": {n: dict(c) for n, c in sorted(tally.by_kind.items())},
            "subjects": {n: dict(c) for n, c in sorted(tally.by_subject.items())},
        }
    )
    writing.write(path, "".join(map(lines.dumped, content)))


def is_fuzz(text: str) -> bool:
    """Whether a file says that it is one of these, of whatever version."""
    try:
        first = json.loads(text.partition("\n")[0])
    except (ValueError, RecursionError):
        return False
    said = first.get("format") if isinstance(first, dict) else None
    return str(said).startswith(FORMAT.rpartition("/")[0] + "/")


def read(path: Path) -> FuzzRun:
    """Read what `write` wrote.

    Raises:
        BrokenResults: It cannot be read, is damaged or cut short.
    """
    return parse(path, lines.text_of(path))


def parse(path: Path, text: str) -> FuzzRun:
    """Read what `write` wrote to `path`, which says `text`.

    Raises:
        BrokenResults: It is damaged or cut short.
    """
    there = lines.split(text)
    content = [_parsed(path, number, line) for number, line in enumerate(there, 1)]
    if content:
        lines.check_format(path, content[0], FORMAT)
    kinds = [line.get("kind") for line in content]
    if kinds != ["header", *["finding"] * (len(kinds) - 2), "footer"]:
        raise BrokenResults(path, len(kinds), f"is not as {FORMAT} has it")
    by = {kind: lines.validator(schema) for kind, schema in _SCHEMAS.items()}
    for number, line in enumerate(content, 1):
        lines.check(path, number, line, by[line["kind"]])
    tally = Tally()
    footer = content[-1]
    tally.by_kind = {n: Counter(c) for n, c in footer["perturbations"].items()}
    tally.by_subject = {n: Counter(c) for n, c in footer["subjects"].items()}
    header = {k: v for k, v in content[0].items() if k not in ("kind", "format")}
    return FuzzRun(header, content[1:-1], tally)


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    content = lines.parsed(path, number, line)
    if content is None:
        raise BrokenResults(path, number, f"is no line of {FORMAT}")
    return content
