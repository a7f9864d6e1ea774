"""The catalogue of clauses, read from SPEC.md, and the marker that names one."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import pytest
from _pytest.outcomes import Skipped

from conformance.adapter import CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

SPEC = Path(__file__).with_name("SPEC.md")

# `core` and one per capability; `hopper` is for clauses that need such a GPU.
PROFILES = ("core", *CAPABILITIES, "hopper")

DEADLINE_S = 240.0

_CHAPTER = re.compile(r"## ([A-Z]{3}) (\S.*)")
_CLAUSE = re.compile(r"### ([A-Z]{3}-\d{2}) (\S.*)")
_WITHDRAWN = re.compile(r"#### ([A-Z]{3}-\d{2})\b.*")
_FIELD = re.compile(r"\*(Why|Covers|Needs|Profile):\*\s*(.*)")
_TITLE_WORDS = 10


class BrokenSpec(Exception):
    """SPEC.md breaks its own rules; the message names the line."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        return f"SPEC.md:{self.line}: {self.problem}"


# A `Skipped` because Hypothesis lets those through instead of shrinking them.
class Blocked(Skipped):
    """The machine lacks what a test needs: no GPU, no network."""


@dataclass(frozen=True)
class Clause:
    """One MUST of the specification.

    Args:
        id: `CHP-nn`; never renumbered, never reused.
        title: The claim, in under ten words.
        text: The normative text, paragraphs separated by an empty line.
        why: What goes wrong otherwise.
        covers: The failure modes that it covers.
        needs: The capabilities that an implementation must declare.
        profile: The profiles that it belongs to, besides `all`.
    """

    id: str
    title: str
    text: str
    why: str
    covers: tuple[str, ...]
    needs: tuple[str, ...]
    profile: tuple[str, ...]

    @property
    def chapter(self) -> str:
        return self.id[:3]


def clause(
    id: str,  # noqa: A002
    *,
    deadline_s: float = DEADLINE_S,
    may_refuse: bool | Literal["setup"] = False,
) -> pytest.MarkDecorator:
    """Tie a test to the clause `id`.

    A test in `conformance.clauses` has exactly one.

    Args:
        id: Of SPEC.md.
        deadline_s: The test is killed after so many seconds.
        may_refuse: Whether a verb that raises `Refused` ends the test well: the
            clause says so. "setup": where a fixture calls it, and not later on.
    """
    return pytest.mark.clause(id, deadline_s=deadline_s, may_refuse=may_refuse)


def blocked(reason: str) -> NoReturn:
    """Leave the test because this machine lacks something, and say what."""
    raise Blocked(reason)


def catalogue() -> dict[str, Clause]:
    """Every clause of the SPEC.md in this package, by id, in its order."""
    return _read(SPEC)[0]


def chapters() -> dict[str, str]:
    """The names of the chapters by their three letters, in the order of SPEC.md."""
    return _read(SPEC)[1]


def digest() -> str:
    """The sha256 of the catalogue: two runs with the same one were asked the same."""
    clauses = [asdict(entry) for entry in catalogue().values()]
    return hashlib.sha256(json.dumps(clauses).encode()).hexdigest()


def parse(text: str) -> tuple[dict[str, Clause], dict[str, str]]:
    """Read the text of a SPEC.md: its clauses by id, and its chapters by letters.

    Raises:
        BrokenSpec: The text breaks a rule of its preamble.
    """
    clauses: dict[str, Clause] = {}
    chapters: dict[str, str] = {}
    seen: set[str] = set()
    letters = ""
    for line, heading, body in _sections(text):
        if chapter := _CHAPTER.fullmatch(heading):
            letters = chapter[1]
            if letters in chapters:
                raise BrokenSpec(line, f"chapter {letters} is there twice")
            chapters[letters] = chapter[2]
            continue
        if heading.startswith(("# ", "## ")):
            letters = ""
        if not letters:
            continue
        found = _CLAUSE.fullmatch(heading) or _WITHDRAWN.fullmatch(heading)
        if found is None:
            raise BrokenSpec(line, f"{heading!r} is no clause (### {letters}-nn Title)")
        name = found[1]
        if not name.startswith(letters):
            raise BrokenSpec(line, f"{name} is in the chapter {letters}")
        if name in seen:
            raise BrokenSpec(line, f"{name} is there twice; an id is never reused")
        seen.add(name)
        if heading.startswith("### "):
            clauses[name] = _clause(line, name, found[2].strip(), body)
    return clauses, chapters


@cache
def _read(path: Path) -> tuple[dict[str, Clause], dict[str, str]]:
    return parse(path.read_text(encoding="utf-8"))


def _sections(text: str) -> Iterator[tuple[int, str, list[tuple[int, str]]]]:
    """Cut `text` at its headings: line number, heading, numbered lines below it."""
    heading, start = "", 0
    body: list[tuple[int, str]] = []
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        fenced ^= line.startswith("```")
        if not fenced and re.match(r"#{1,4} ", line):
            if heading:
                yield start, heading, body
            heading, start, body = line.rstrip(), number, []
        else:
            body.append((number, line.rstrip()))
    if heading:
        yield start, heading, body


def _clause(line: int, name: str, title: str, body: list[tuple[int, str]]) -> Clause:
    fields: dict[str, Any] = {"text": []}
    where = {"text": line}
    current = "text"
    for number, raw in body:
        if found := _FIELD.fullmatch(raw):
            current = found[1].lower()
            if current in fields:
                raise BrokenSpec(number, f"{name} has *{found[1]}:* twice")
            fields[current], where[current] = [found[2]], number
        elif current == "text" or raw:
            fields[current].append(raw)
        else:
            current = "text"
    content = "\n".join(fields["text"]).strip()
    needs = _names(fields, "needs")
    profile = _names(fields, "profile") or needs or ("core",)
    faults = [
        (line, len(title.split()) >= _TITLE_WORDS, "has a title of ten words or more"),
        (line, not re.search(r"\bMUST\b", content), "has no MUST in its text"),
        (line, "why" not in fields, "has no *Why:*"),
        *(
            (where["needs"], True, f"needs {need!r}, which is no capability")
            for need in needs
            if need not in CAPABILITIES
        ),
        *(
            (where["profile"], True, f"names the profile {entry!r}, which there is not")
            for entry in profile
            if entry not in PROFILES and "profile" in where
        ),
    ]
    for number, wrong, problem in faults:
        if wrong:
            raise BrokenSpec(number, f"{name} {problem}")
    return Clause(
        id=name,
        title=title,
        text=re.sub(r"(?<!\n)\n(?!\n)", " ", content),
        why=" ".join(fields["why"]).strip(),
        covers=_names(fields, "covers"),
        needs=needs,
        profile=profile,
    )


def _names(fields: dict[str, Any], key: str) -> tuple[str, ...]:
    joined = " ".join(fields.get(key, ()))
    return tuple(word for word in re.split(r"[,\s]+", joined.rstrip(". ")) if word)
