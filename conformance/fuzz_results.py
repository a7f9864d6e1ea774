"""What a fuzz found, as a file: JSON Lines `aoti-conformance-fuzz/1`.

Its lines: a header, every finding that is not clean, and a footer with the counts.
The file is written at the end, whole.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from conformance.places import without_places
from conformance.results import BrokenResults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FORMAT = "aoti-conformance-fuzz/1"

EQUAL, REFUSED = "equal", "refused"
WRONG, UNNAMED, FALSE = "wrong", "unnamed", "false refusal"
CRASHED = "crashed"
LEFT = "files left"  # after a refusal of a package
OUTCOMES = (EQUAL, REFUSED, FALSE, UNNAMED, WRONG, CRASHED, LEFT)
CLEAN = (EQUAL, REFUSED)

_DETAIL_CHARACTERS = 600


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
    lines: list[dict[str, Any]] = [{"kind": "header", "format": FORMAT, **header}]
    lines += [
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
    lines.append(
        {
            "kind": "footer",
            "counts": dict(tally.total),
            "perturbations": {n: dict(c) for n, c in sorted(tally.by_kind.items())},
            "subjects": {n: dict(c) for n, c in sorted(tally.by_subject.items())},
        }
    )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f"{path.name}.", delete=False
    ) as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def is_fuzz(path: Path) -> bool:
    """Whether the file at `path` says that it is one of these."""
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):
        return False
    return isinstance(first, dict) and first.get("format") == FORMAT


def read(path: Path) -> FuzzRun:
    """Read what `write` wrote.

    Raises:
        BrokenResults: It is damaged or cut short.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    content = [_parsed(path, number, line) for number, line in enumerate(lines, 1)]
    kinds = [line.get("kind") for line in content]
    if kinds != ["header", *["finding"] * (len(kinds) - 2), "footer"]:
        raise BrokenResults(path, len(kinds), f"is not as {FORMAT} has it")
    tally = Tally()
    footer = content[-1]
    try:
        tally.by_kind = {n: Counter(c) for n, c in footer["perturbations"].items()}
        tally.by_subject = {n: Counter(c) for n, c in footer["subjects"].items()}
    except (KeyError, AttributeError, TypeError) as error:
        raise BrokenResults(path, len(kinds), f"the footer lacks {error}") from error
    header = {k: v for k, v in content[0].items() if k not in ("kind", "format")}
    return FuzzRun(header, content[1:-1], tally)


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise BrokenResults(path, number, f"is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise BrokenResults(path, number, f"is no line of {FORMAT}")
    return content
