"""Run a fuzz in children, a batch at a time: a crash costs one case and is counted."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from conformance import fuzz, isolated
from conformance.cache import PackageCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from conformance.adapter import Adapter
    from conformance.fuzz import Case

FORMAT = "aoti-conformance-fuzz/1"
BATCH = 100
_COMPILE_S = 900
_CASE_S = 20  # a denoiser in float64, on a busy machine


class Finding(NamedTuple):
    """A case, and what became of it."""

    case: Case
    outcome: str
    detail: str


class Campaign:
    """A fuzz of one implementation.

    Args:
        adapter: The implementation.
        root: The folder of the package cache.
        seed: For weights, and for what is drawn.
        workers: How many children at a time.
    """

    def __init__(self, adapter: Adapter, root: Path, seed: int, workers: int) -> None:
        self.adapter = adapter
        self.root = root
        self.seed = seed
        self.workers = workers
        self.not_compiled: dict[str, str] = {}

    def run(self, cases: Sequence[Case]) -> Iterator[Finding]:
        """Judge `cases`; what cannot be made of a call is left out.

        A subject that the implementation does not compile is left out, and named
        in `not_compiled`.
        """
        isolated.warm_up()
        names = list(dict.fromkeys(case.subject for case in cases))
        with ThreadPoolExecutor(self.workers) as pool:
            ready = pool.map(self._prepare, names)
            problems = dict(zip(names, ready, strict=True))
            self.not_compiled = {n: p for n, p in problems.items() if p}
            batches = [
                found[at : at + BATCH]
                for name in names
                if not problems[name]
                for found in [[case for case in cases if case.subject == name]]
                for at in range(0, len(found), BATCH)
            ]
            for findings in pool.map(self._judge, batches):
                yield from findings

    def _prepare(self, name: str) -> str:
        """Compile a subject into the cache; say why if it is refused."""

        def compile() -> str:
            _twins(self.adapter, self.root, name, self.seed)
            return ""

        ending = isolated.run_forked(compile, deadline_s=_COMPILE_S)
        last = (ending.text.strip().splitlines() or [ending.kind])[-1]
        return "" if ending.kind == "answer" else last

    def _judge(self, batch: list[Case]) -> list[Finding]:
        """Judge cases of one subject, in as many children as crashes ask for."""
        findings: list[Finding] = []
        left = batch
        while left:
            told, ending = self._in_a_child(left)
            findings += [
                Finding(case, *outcome)
                for case, outcome in zip(left, told, strict=False)
                if outcome is not None
            ]
            if len(told) == len(left):
                break
            if ending.kind == "broken":  # nothing but the suite can raise there
                raise RuntimeError(f"{left[len(told)]}: {ending.text}")
            findings.append(
                Finding(left[len(told)], fuzz.CRASHED, ending.text.splitlines()[0])
            )
            left = left[len(told) + 1 :]
        return findings

    def _in_a_child(
        self, cases: list[Case]
    ) -> tuple[list[tuple[str, str] | None], isolated.Ending]:
        """Judge `cases` until the end, or until the child's."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "told.jsonl"
            path.touch()
            ending = isolated.run_forked(
                lambda: _judge_all(self.adapter, self.root, self.seed, cases, path),
                deadline_s=_COMPILE_S + _CASE_S * len(cases),
            )
            lines = path.read_text().splitlines()
        told = [json.loads(line) for line in lines]
        return [None if found is None else tuple(found) for found in told], ending


def _twins(adapter: Adapter, root: Path, name: str, seed: int) -> Any:
    subject = fuzz.subjects()[name](seed)
    return fuzz.twins(adapter, PackageCache(root, adapter), subject), subject.call


def _judge_all(
    adapter: Adapter, root: Path, seed: int, cases: list[Case], path: Path
) -> None:
    """Judge cases one after the other, and write each verdict down at once."""
    pair, call = _twins(adapter, root, cases[0].subject, seed)
    with path.open("a") as file:
        for case in cases:
            told = fuzz.judge(pair, call, case.kind, case.seed)
            file.write(json.dumps(told) + "\n")
            file.flush()
            os.fsync(file.fileno())


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
        return not any(
            self.total[outcome] for outcome in fuzz.OUTCOMES if outcome not in _CLEAN
        )


_CLEAN = (fuzz.EQUAL, fuzz.REFUSED)


def write(
    path: Path,
    header: dict[str, Any],
    findings: Sequence[Finding],
    tally: Tally,
    repeat: Callable[[Case], str],
) -> None:
    """Write a fuzz as JSON Lines: header, every finding that is not clean, counts."""
    lines: list[dict[str, Any]] = [{"kind": "header", "format": FORMAT, **header}]
    lines += [
        {
            "kind": "finding",
            "subject": found.case.subject,
            "perturbation": found.case.kind,
            "outcome": found.outcome,
            "detail": found.detail[:600],
            "command": repeat(found.case),
        }
        for found in findings
        if found.outcome not in _CLEAN
    ]
    lines.append(
        {
            "kind": "footer",
            "counts": dict(tally.total),
            "perturbations": {n: dict(c) for n, c in sorted(tally.by_kind.items())},
            "subjects": {n: dict(c) for n, c in sorted(tally.by_subject.items())},
        }
    )
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
