"""Repeat clause tests, and report every test that does not always end the same way.

    python -m conformance.meta.repeat [--times N] [--write FILE] [-- PYTEST ...]

Each time is a pytest of its own, with the same seed. What follows `--` is for pytest;
by default it runs the chapter of processes and threads. It ends with 1 if an outcome
differed, and with 4 if pytest ran nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance import collecting, lines, results, spec, writing
from conformance.environment import describe
from conformance.meta.kill_options import at_least_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.results import Run

CHAPTER = "PRC"
MISSING = "missing"


def differing(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Give the tests whose outcomes differ: how often each, and one message of each.

    A test that was planned in one run and has no result in another is `missing` there.
    """
    tests = {test for run in runs for test in run.plan}
    endings: dict[str, Counter[str]] = {test: Counter() for test in tests}
    said: dict[str, dict[str, str]] = {test: {} for test in tests}
    for run in runs:
        ended = {result.id: result for result in run.results}
        for test in tests:
            outcome = ended[test].outcome if test in ended else MISSING
            endings[test][outcome] += 1
            said[test][outcome] = ended[test].message if test in ended else ""
    return {
        test: {"outcomes": dict(endings[test]), "messages": said[test]}
        for test in sorted(tests)
        if len(endings[test]) > 1
    }


def main(arguments: list[str] | None = None) -> int:
    """Run it so many times; 1 if an outcome differed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=at_least_one, default=20, metavar="N")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="keep what was found, as JSON"
    )
    parser.add_argument("pytest", nargs="*", help="for pytest")
    options = parser.parse_args(arguments)
    if options.write and not os.access(options.write.absolute().parent, os.W_OK):
        problem = f"--write={options.write}: its folder cannot be written to"
        print(problem, file=sys.stderr)
        return 4
    runs = []
    for number in range(1, options.times + 1):
        began = time.monotonic()
        run = _once(options.pytest or _chapter(CHAPTER))
        if run is None:
            return 4
        runs.append(run)
        counts = ", ".join(f"{n} {outcome}" for outcome, n in run.counts.items())
        seconds = time.monotonic() - began
        print(f"{number:>3}  {counts or 'no result'}  {seconds:.0f} s", flush=True)
    found = differing(runs)
    for test, told in found.items():
        print(f"{test}: {_counted(told['outcomes'])}")
        for outcome, message in told["messages"].items():
            print(f"  {outcome}: {message.partition(chr(10))[0]}")
    tests = max(len(run.plan) for run in runs)
    print(f"{options.times} times {tests} tests: {len(found)} that differ")
    if options.write:
        text = f"of {tests} tests, run {options.times} times, those that differ"
        target = {"text": text, "found": len(found), "good": not found}
        figures = {
            "times": options.times,
            "tests": tests,
            "differing": found,
            "targets": [target],
        }
        content = {
            "benchmark": "flaky",
            "environment": describe(),
            "finished": runs[-1].header["started"],
            "figures": figures,
        }
        text = json.dumps(content, indent=1) + "\n"
        writing.write(options.write, text)
    return int(bool(found))


def _counted(outcomes: dict[str, int]) -> str:
    return ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())


def _chapter(letters: str) -> list[str]:
    names = [name for name in spec.catalogue() if name.startswith(letters)]
    return [str(collecting.CLAUSES), *(f"--aoti-clause={name}" for name in names)]


def _once(arguments: Sequence[str]) -> Run | None:
    """Run pytest once; None, and pytest's own words, if it left no results."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "results.jsonl"
        points = entry_points(group="pytest11")
        known = any(point.name == "aoti_conformance" for point in points)
        plugin = () if known else ("-p", "conformance.plugin")
        options = (
            "-q",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            f"--aoti-report={report}",
        )
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", *plugin, *options, *arguments],
            check=False,
            capture_output=True,
            text=True,
        )
        try:
            return results.read(report)
        except lines.BrokenResults:
            print(ended.stdout + ended.stderr, file=sys.stderr)
            return None


if __name__ == "__main__":
    sys.exit(main())
