"""Runs, fuzzes and measurements for pages under test."""

from __future__ import annotations

import shlex
from collections import Counter
from string import ascii_uppercase
from typing import Any

from conformance import html_board
from conformance.fuzz_results import FuzzRun, Tally
from conformance.measured import Bar, Chart, Check, Measured
from conformance.results import Result, Run
from conformance.spec import Clause

# What an implementation may say in a message, and a page must not obey.
HOSTILE = (
    "</script><script>window.obeyed = 1</script>"
    "<img src=x onerror='window.obeyed = 1'> & \"quotes\" \u2028 line"
)
_OUTCOMES = ("pass", "fail", "crash", "xfail", "unsupported", "blocked")
_ENVIRONMENT: dict[str, Any] = {
    "python": "3.11.7",
    "platform": "Linux",
    "cpus": 2,
    "gpus": [],
    "versions": {"torch": "2.13.0"},
}


def header(name: str) -> dict[str, Any]:
    return {
        "implementation": {"name": name, "version": "1.0", "capabilities": ["dynamic"]},
        "environment": _ENVIRONMENT,
        "catalogue": "0" * 64,
        "shard": {"group": 1, "splits": 1},
    }


def catalogue(chapters: int, each: int) -> dict[str, Clause]:
    """Make clauses with a text of usual length."""
    made = [
        Clause(
            f"{letter}XX-{number:02}",
            f"Claim {number} of {letter}",
            f"Whatever is given, `{letter.lower()}{number}` MUST hold. " * 2,
            "It *breaks* otherwise, and <b>nobody</b> sees it.",
            (f"C{number}",),
            ("dynamic",) if number % 2 else (),
            ("dynamic",) if number % 2 else ("core",),
        )
        for letter in ascii_uppercase[:chapters]
        for number in range(each)
    ]
    return {clause.id: clause for clause in made}


def run(name: str, known: dict[str, Clause], *, shift: int, message: str = "") -> Run:
    """Make a run of two tests per clause, of outcomes that take turns."""
    results = [
        _result(clause, test, _OUTCOMES[(at + shift) % len(_OUTCOMES)], message)
        for at, clause in enumerate(known)
        for test in ("whole", "it's [big]")
    ]
    clauses = {
        n: {"title": c.title, "profile": list(c.profile)} for n, c in known.items()
    }
    plan = {result.id: result.clause for result in results}
    return Run(header(name), clauses, plan, results, {})


def _result(clause: str, test: str, outcome: str, message: str) -> Result:
    name = f"t::test_{clause}[{test}]"
    command = f"python -m pytest --pyargs {shlex.quote(name)} --aoti-seed=0"
    told = "" if outcome == "pass" else f"{clause} told {outcome}. {message}"
    return Result(name, clause, outcome, "call", 0.1, told, command)


def fuzz() -> FuzzRun:
    tally = Tally()
    tally.by_kind = {"dropped": Counter({"refused": 3, "wrong": 1})}
    tally.by_subject = {"stack": Counter({"refused": 3, "wrong": 1})}
    finding = {
        "subject": "stack",
        "perturbation": "dropped",
        "outcome": "wrong",
        "detail": HOSTILE,
        "command": "aoti-conformance fuzz --case dropped 1",
    }
    return FuzzRun(
        {**header("first"), "not_compiled": {"chosen": HOSTILE}}, [finding], tally
    )


def measurement() -> Measured:
    bars = Bar("eager", 9, 10, 11), Bar("compiled", 4, 5, 20)
    checks = (
        Check("files left", "0", "0", good=True),
        Check(HOSTILE, "1", "0", good=False),
    )
    made = "python -m benchmarks.calls"
    return Measured("calls", _ENVIRONMENT, made, (Chart("calls", "us", bars),), checks)


def board(chapters: int = 3, each: int = 10) -> str:
    """Write a page of two implementations."""
    known = catalogue(chapters, each)
    runs = [
        run("first", known, shift=0, message=HOSTILE),
        run("second", known, shift=1),
    ]
    found = html_board.Files(runs, [fuzz()], [measurement()])
    return html_board.render(found, known)
