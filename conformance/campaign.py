"""Run a fuzz in children, a batch at a time: a crash costs one case and is counted."""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance import fuzz, isolated
from conformance.cache import PackageCache
from conformance.fuzz_results import CRASHED, Case, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conformance.adapter import Adapter

BATCH = 100
_COMPILE_S = 900
_CASE_S = 20  # a denoiser in float64, on a busy machine


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
        isolated.warm_up(self.root)
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
        return "" if ending.kind == "answer" else _reason(ending)

    def _judge(self, batch: list[Case]) -> list[Finding]:
        """Judge cases of one subject, in as many children as crashes ask for."""
        findings: list[Finding] = []
        while left := batch[len(findings) :]:
            told, unjudged, ending = self._in_a_child(left)
            findings += told
            if len(told) == len(left):
                break
            if ending.kind == "broken":  # nothing but the suite can raise there
                raise RuntimeError(f"{unjudged or left[0]}: {ending.text}")
            case = unjudged or left[len(told)]
            findings.append(Finding(case, CRASHED, ending.text.partition("\n")[0]))
        return findings

    def _in_a_child(
        self, cases: list[Case]
    ) -> tuple[list[Finding], Case | None, isolated.Ending]:
        """Judge `cases` until the end, or until the child's.

        Returns:
            What was judged, the case that was begun after those, and the end.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "told.jsonl"
            path.touch()
            ending = isolated.run_forked(
                lambda: _judge_all(self.adapter, self.root, self.seed, cases, path),
                deadline_s=_COMPILE_S + _CASE_S * len(cases),
            )
            lines = [json.loads(line) for line in path.read_text().splitlines()]
        findings: list[Finding] = []
        begun: Case | None = None
        for line in lines:
            if "begun" in line:
                begun = Case(*line["begun"])
            elif begun is not None:
                findings.append(Finding(begun, *line["told"]))
                begun = None
        return findings, begun, ending


def _reason(ending: isolated.Ending) -> str:
    """Find the line that says what was raised, in the last traceback of a child."""
    lines = [line for line in ending.text.strip().splitlines() if line]
    heads = [at for at, line in enumerate(lines) if line.startswith("Traceback ")]
    below = lines[heads[-1] + 1 :] if heads else lines
    return next((line for line in below if not line.startswith(" ")), ending.kind)


def _twins(adapter: Adapter, root: Path, name: str, seed: int) -> Any:
    subject = fuzz.subjects()[name](seed)
    return fuzz.twins(adapter, PackageCache(root, adapter), subject), subject.call


def _judge_all(
    adapter: Adapter, root: Path, seed: int, cases: list[Case], path: Path
) -> None:
    """Judge cases one after the other, and write each step down at once."""
    pair, call = _twins(adapter, root, cases[0].subject, seed)
    with path.open("a") as file:

        def note(line: dict[str, Any]) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        for drawn in cases:
            case, told = drawn, None
            while told is None:
                note({"begun": case})
                told = fuzz.judge(pair, call, case.kind, case.seed)
                # No kind of perturbation makes something of every call.
                case = fuzz.another(case)
            note({"told": told})
