"""The results file: JSON Lines `aoti-conformance/1`, written as results come.

Its lines: a header, the plan, one line per result, a footer. A file without a
footer is one whose run was cut short; it reads, as incomplete.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from conformance import lines
from conformance.lines import BrokenResults
from conformance.places import without_places
from conformance.verdicts import Verdict, verdicts
from conformance.writing import replacing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from jsonschema import Draft202012Validator

FORMAT = "aoti-conformance/1"
SCHEMA = "aoti-conformance-1.schema.json"


@dataclass(frozen=True)
class Result:
    """What became of one test."""

    id: str
    clause: str
    outcome: str
    phase: str
    seconds: float
    message: str
    command: str
    peak_rss_mib: float = 0.0


@dataclass
class Run:
    """One results file, or one run that has not been written.

    Args:
        header: Implementation, environment, catalogue, seed, shard.
        clauses: Every clause of the catalogue that the run knew, by id, as
            `{"title": ..., "profile": [...]}`.
        plan: The clause of every test that was to run, by the test's id.
        results: What came of them so far.
        footer: None if the run was cut short.
        path: Where it was read from.
    """

    header: dict[str, Any]
    clauses: dict[str, dict[str, Any]]
    plan: dict[str, str]
    results: list[Result] = field(default_factory=list)
    footer: dict[str, Any] | None = None
    path: Path | None = None

    @property
    def name(self) -> str:
        """The implementation and its version."""
        made = self.header["implementation"]
        return f"{made['name']} {made['version']}"

    @property
    def missing(self) -> list[str]:
        """The planned tests that have no result."""
        done = {result.id for result in self.results}
        return [test for test in self.plan if test not in done]

    @property
    def complete(self) -> bool:
        """Whether the run came to its end with a result for everything planned."""
        return self.footer is not None and not self.missing

    @property
    def cut(self) -> set[str]:
        """The clauses of which not every test was asked for."""
        return set(self.header.get("cut", ()))

    @property
    def part(self) -> str:
        """Which group of a split run this is; empty if it is all of it."""
        shard = self.header["shard"]
        whole = shard["splits"] == 1
        return "" if whole else f"only group {shard['group']} of {shard['splits']}"

    @property
    def counts(self) -> dict[str, int]:
        """How many tests ended with each outcome that there was."""
        counts: dict[str, int] = {}
        for result in self.results:
            counts[result.outcome] = counts.get(result.outcome, 0) + 1
        return counts

    def outcomes(self, clauses: Collection[str]) -> dict[str, list[str]]:
        """The outcomes of those of `clauses` that lack no result."""
        found: dict[str, list[str]] = {}
        for result in self.results:
            found.setdefault(result.clause, []).append(result.outcome)
        lacking = {self.plan[test] for test in self.missing}
        return {n: o for n, o in found.items() if n in clauses and n not in lacking}

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict per profile."""
        outcomes: dict[str, list[str]] = {}
        for result in self.results:
            outcomes.setdefault(result.clause, []).append(result.outcome)
        for test in self.missing:
            outcomes.setdefault(self.plan[test], []).append("missing")
        profiles = {
            name: tuple(entry["profile"]) for name, entry in self.clauses.items()
        }
        declared = self.header["implementation"]["capabilities"]
        return verdicts(profiles, outcomes, declared, cut=self.cut, part=self.part)


def footer(run: Run, stale: Iterable[str], seconds: float) -> dict[str, Any]:
    """Make the footer of `run` from its results.

    Args:
        run: A run that is over.
        stale: The clauses whose known deviation is gone.
        seconds: How long it took.
    """
    return {
        "counts": run.counts,
        "missing": len(run.missing),
        "verdicts": {name: vars(entry) for name, entry in run.verdicts.items()},
        "stale": list(stale),
        "seconds": round(seconds, 3),
        "peak_rss_mib": max((r.peak_rss_mib for r in run.results), default=0.0),
    }


class Writer:
    """Writes a results file line by line; a call returns when its line is out."""

    def __init__(self, path: Path) -> None:
        """Open `path` for writing, and empty it.

        Raises:
            OSError: It cannot be written.
        """
        self.path = path
        self._file: IO[str] = path.open("w", encoding="utf-8")

    def begin(self, run: Run) -> None:
        """Write the header and the plan."""
        self._line({"kind": "header", "format": FORMAT, **run.header})
        tests = [{"id": test, "clause": clause} for test, clause in run.plan.items()]
        self._line({"kind": "plan", "clauses": run.clauses, "tests": tests})

    def result(self, result: Result) -> None:
        """Write one result; its message names no folder of this machine."""
        told = asdict(result) | {"message": without_places(result.message)}
        self._line({"kind": "result", **told})

    def end(self, footer: dict[str, Any]) -> None:
        """Write the footer and close the file."""
        self._line({"kind": "footer", **footer})
        self.close()

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _line(self, content: dict[str, Any]) -> None:
        self._file.write(lines.dumped(content))
        self._file.flush()


def save(path: Path, run: Run) -> None:
    """Write `run` to `path`, whole or not at all; without a footer if it has none.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(path) as target:
        writer = Writer(target)
        writer.begin(run)
        for result in run.results:
            writer.result(result)
        if run.footer is None:
            writer.close()
        else:
            writer.end(run.footer)


def read(path: Path | str) -> Run:
    """Read the results file at `path`.

    Raises:
        BrokenResults: It is none: no such file, no JSON, not after the schema.
    """
    path = Path(path)
    return parse(path, lines.text_of(path))


def parse(path: Path, text: str) -> Run:
    """Read the results file at `path`, which says `text`.

    Raises:
        BrokenResults: It is none: no JSON, not after the schema.
    """
    if not text:
        problem = "is empty: its run was killed before its plan was written"
        raise BrokenResults(path, None, problem)
    there = lines.split(text)
    if not text.endswith("\n") and not _is_json(there[-1]):
        there.pop()  # the run was killed while it wrote this
    content = [_checked(path, number, line) for number, line in enumerate(there, 1)]
    kinds = [line["kind"] for line in content]
    for number, wanted in enumerate(("header", "plan"), 1):
        if len(kinds) < number:
            problem = "was killed before its plan was written"
            raise BrokenResults(path, None, problem)
        if kinds[number - 1] != wanted:
            raise BrokenResults(
                path, number, f"should be the {wanted}, as {FORMAT} has it"
            )
    for number, kind in enumerate(kinds[2:], 3):
        if kind != "result" and not (kind == "footer" and number == len(kinds)):
            raise BrokenResults(path, number, f"a {kind} has no place here")
    return _run(path, content)


def _run(path: Path, content: list[dict[str, Any]]) -> Run:
    header, plan, *rest = content
    footer = rest.pop() if rest and rest[-1]["kind"] == "footer" else None
    run = Run(
        header=_without_kind(header),
        clauses=plan["clauses"],
        plan={test["id"]: test["clause"] for test in plan["tests"]},
        footer=_without_kind(footer) if footer else None,
        path=path,
    )
    seen: set[str] = set()
    for number, line in enumerate(rest, 3):
        result = Result(**_without_kind(line))
        if run.plan.get(result.id) != result.clause:
            raise BrokenResults(
                path, number, f"{result.id} ({result.clause}) is not in the plan"
            )
        if result.id in seen:
            raise BrokenResults(path, number, f"{result.id} has a result already")
        seen.add(result.id)
        run.results.append(result)
    return run


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _checked(path: Path, number: int, line: str) -> dict[str, Any]:
    content = lines.parsed(path, number, line)
    if content is not None and number == 1:
        lines.check_format(path, content, FORMAT)
    kind = content.get("kind") if content else None
    if content is None or kind not in ("header", "plan", "result", "footer"):
        raise BrokenResults(path, number, f"is no line of {FORMAT}")
    lines.check(path, number, content, _validator(kind))
    return content


@cache
def _validator(kind: str) -> Draft202012Validator:
    text = files("conformance").joinpath(SCHEMA).read_text(encoding="utf-8")
    whole = json.loads(text)
    return lines.validator({"$ref": f"#/$defs/{kind}", "$defs": whole["$defs"]})


def _without_kind(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in ("kind", "format")}
