"""Gate the sample project as its CI would, break and repair it, and check each ending.

    python examples/gate_downstream.py CHECKOUT COPY

CHECKOUT is this repository, COPY a copy of examples/downstream that is installed in
this environment, editable, beside the built wheel of the suite. `nox -s downstream`
makes both. The gate is the script of the reusable workflow, taken from its file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import conformance
from conformance.results import read

if TYPE_CHECKING:
    from conformance.results import Run

BROKEN = {"APP-12", "RUN-05", "RUN-16"}


class Wrong(Exception):
    """The gate did not end as it must."""


class Gate:
    """The gate of the project in `copy`, with the inputs that its CI gives."""

    def __init__(self, checkout: Path, copy: Path) -> None:
        self.copy = copy
        job = _job(checkout / ".github" / "workflows" / "conformance.yml")
        (step,) = [step for step in job["steps"] if step.get("name") == "Gate"]
        self.script = step["run"]
        caller = _job(copy / ".github" / "workflows" / "conformance.yml")
        self.given = caller["with"]

    def run(self, what: str, *, code: int, **inputs: str) -> Run:
        """Run the gate, and check that it ends with `code`."""
        given = {"profile": "all", "workers": "0", **self.given, **inputs}
        variables = {name.upper(): str(value) for name, value in given.items()}
        report = self.copy / "results.jsonl"
        report.unlink(missing_ok=True)
        began = time.monotonic()
        ended = subprocess.run(  # noqa: S603
            ["bash", "-euo", "pipefail", "-c", self.script],  # noqa: S607
            cwd=self.copy,
            env={**os.environ, **variables},
            check=False,
            capture_output=True,
            text=True,
        )
        seconds = time.monotonic() - began
        if ended.returncode != code:
            output = ended.stdout + ended.stderr
            raise Wrong(f"{what}: ended with {ended.returncode}, not {code}\n{output}")
        run = read(report)
        counts = ", ".join(f"{n} {outcome}" for outcome, n in run.counts.items())
        print(f"{what}: exit code {code}; {counts}; {seconds:.0f} s", flush=True)
        return run


def _job(path: Path) -> dict[str, Any]:
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return dict(jobs["gate"])


def _clauses(run: Run, *outcomes: str) -> set[str]:
    return {result.clause for result in run.results if result.outcome in outcomes}


def _want(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Wrong(f"{what}: found {found}, wanted {wanted}")


def check(checkout: Path, copy: Path) -> None:
    """Take the sample through its life.

    Raises:
        Wrong: The gate did not end as it must.
    """
    suite = Path(conformance.__file__)
    if suite.is_relative_to(checkout) and "site-packages" not in suite.parts:
        raise Wrong(f"the suite is the checkout's ({suite}), not that of the wheel")
    gate = Gate(checkout, copy)

    run = gate.run("as it is", code=0)
    _want("known deviations", _clauses(run, "xfail"), BROKEN)
    _want("clauses that hold", _clauses(run, "pass") - BROKEN, {"APP-02"})

    run = gate.run("without expectations", code=1, expected="")
    _want("broken clauses", _clauses(run, "fail", "crash"), BROKEN)

    shutil.copy(copy / "repaired" / "layer.py", copy / "src" / "thin_layer")
    run = gate.run("repaired", code=1)
    _want("tests that are named and pass", _clauses(run, "xpass"), {"RUN-16"})
    stale = set(run.footer["stale"]) if run.footer else set()
    _want("clauses that are named and hold", stale, BROKEN - {"RUN-16"})

    (copy / "known.toml").write_text("", encoding="utf-8")
    run = gate.run("repaired, and nothing expected", code=0)
    _want("outcomes", set(run.counts), {"pass"})


def main() -> int:
    """Check, and tell in a sentence what is wrong."""
    try:
        check(*(Path(argument).resolve() for argument in sys.argv[1:3]))
    except Wrong as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
