"""The tests and the mutants of a clause, found without importing them."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from conformance.collecting import CLAUSES

MUTANTS = Path(__file__).with_name("meta") / "mutants"


def tests_of(clause: str) -> list[str]:
    """Name the tests of `clause`."""
    return [
        f"{path.stem}::{node.name}"
        for path in sorted(CLAUSES.glob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and any(_names_clause(entry, clause) for entry in node.decorator_list)
    ]


def mutants_of(clause: str) -> list[str]:
    """Name the mutants of `clause`; a distribution without them has none.

    A mutant is named for its clause: `CAP_03`, or `CAP_03_what_it_breaks`.
    """
    name = re.compile(rf"{clause.replace('-', '_')}(?![0-9])\w*")
    return [
        f"{path.stem}:{target.id}"
        for path in sorted(MUTANTS.glob("[!_]*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        for target in _targets(node)
        if name.fullmatch(target.id)
    ]


def _targets(node: ast.stmt) -> list[ast.Name]:
    """The names that a statement gives something to."""
    if isinstance(node, ast.Assign):
        return [target for target in node.targets if isinstance(target, ast.Name)]
    return []


def _names_clause(decorator: Any, clause: str) -> bool:  # ast has no better type
    return (
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Name)
        and decorator.func.id == "clause"
        and any(
            isinstance(entry, ast.Constant) and entry.value == clause
            for entry in decorator.args
        )
    )
