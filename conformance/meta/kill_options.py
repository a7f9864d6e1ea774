"""The options of the kill table, and which mutants they ask for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from conformance import spec
from conformance.meta import kill_table
from conformance.meta.kill_table import BLOCKED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conformance.meta.mutants._make import Mutant


def parser() -> argparse.ArgumentParser:
    """Read the command line of `python -m conformance.meta.kill`."""
    description = "Hunt every mutant with the clause that it was made to break."
    made = argparse.ArgumentParser(description=description)
    made.add_argument("-j", type=at_least_one, default=2, metavar="N", help="at a time")
    home = Path("~/.cache/aoti-conformance").expanduser()
    made.add_argument("--cache", default=os.environ.get("AOTI_CACHE", str(home)))
    made.add_argument("--profile", choices=spec.PROFILES, help="of its clauses only")
    made.add_argument("--device", default="cpu", help="where modules live")
    made.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="keep the table here, as JSON; with names, amend the one that is there",
    )
    made.add_argument(
        "--elsewhere",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="the table of another machine, which decides what is blocked here",
    )
    made.add_argument(
        "--undecided-in",
        type=Path,
        metavar="FILE",
        help="only the mutants that are blocked in this table",
    )
    made.add_argument("mutants", nargs="*", help="names; all of them by default")
    return made


def at_least_one(text: str) -> int:
    """Read a number that counts something.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def wanted_by(
    found: Mapping[str, Mutant], options: argparse.Namespace
) -> dict[str, Mutant]:
    """Choose the mutants that the options ask for.

    Raises:
        BrokenTable: The table of `--undecided-in` cannot be read.
    """
    chosen = dict(found)
    if options.mutants:
        named = options.mutants
        chosen = {p: m for p, m in chosen.items() if p.rpartition(":")[2] in named}
    if options.profile:
        known = {name: entry.profile for name, entry in spec.catalogue().items()}
        asked = options.profile
        chosen = {p: m for p, m in chosen.items() if asked in known[m.clause]}
    if options.undecided_in:
        verdicts = kill_table.read_of_today(options.undecided_in).verdicts
        open_ones = {verdict.mutant for verdict in verdicts if verdict.word == BLOCKED}
        chosen = {p: m for p, m in chosen.items() if p.rpartition(":")[2] in open_ones}
    return chosen
