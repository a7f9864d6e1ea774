"""Small runs and their files, for tests of what reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from conformance.results import Result, Run, Writer

if TYPE_CHECKING:
    from pathlib import Path

HEADER: dict[str, Any] = {
    "implementation": {
        "name": "small",
        "version": "1.0",
        "url": "https://example.org",
        "issues": "https://example.org/issues",
        "adapter": "small_adapter",
        "capabilities": [],
    },
    "environment": {
        "python": "3.11.7",
        "platform": "Linux",
        "cpus": 2,
        "gpus": [],
        "versions": {"torch": "2.13.0"},
    },
    "catalogue": "0" * 64,
    "seed": 0,
    "shard": {"group": 1, "splits": 1},
}
ONE = Result("t::test_one", "CAP-01", "pass", "call", 0.1, "", "python -m pytest")


def small_run(*outcomes: str) -> Run:
    """A run with a test of its own clause per outcome; `missing` has no result."""
    ids = [f"CAP-{number:02}" for number, _ in enumerate(outcomes, 1)]
    return Run(
        HEADER,
        {name: {"title": f"Claim {name}", "profile": ["core"]} for name in ids},
        {f"t::test_{name}": name for name in ids},
        [
            replace(
                ONE, id=f"t::test_{name}", clause=name, outcome=outcome, message="so|so"
            )
            for name, outcome in zip(ids, outcomes, strict=True)
            if outcome != "missing"
        ],
        {},
    )


def write(path: Path, run: Run, *, footer: bool = True) -> Path:
    writer = Writer(path)
    writer.begin(run)
    for result in run.results:
        writer.result(result)
    if footer:
        writer.end({"counts": run.counts, "missing": len(run.missing), "verdicts": {}})
    else:
        writer.close()
    return path
