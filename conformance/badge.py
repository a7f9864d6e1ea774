"""Runs as a badge: what shields.io asks an endpoint for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from conformance.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.results import Run

_BROKEN = {"fail", "error", "crash", "timeout", "xpass"}
# The worst first: it is the one that several runs are shown in.
_COLOURS = ("red", "lightgrey", "yellow", "blue", "brightgreen")


def badge(runs: Sequence[Run], profile: str = "all") -> str:
    """Write the badge of `runs` for one profile, as JSON.

    One run shows its verdict, several how many of them are conformant. Red: something
    is broken; yellow: nothing is, but a known deviation, or what the machine lacks,
    stands between; grey: the run is incomplete, or a part of one; blue: the profile is
    not claimed.
    """
    told = [run.verdicts.get(profile, Verdict("not claimed")) for run in runs]
    pairs = zip(runs, told, strict=True)
    colours = [_colour(run, entry, profile) for run, entry in pairs]
    conformant = sum(entry.verdict == "conformant" for entry in told)
    message = str(told[0]) if len(told) == 1 else f"{conformant} of {len(told)} conform"
    content: dict[str, Any] = {
        "schemaVersion": 1,
        "label": "AOTI" if profile == "all" else f"AOTI {profile}",
        "message": message,
        "color": min(colours, key=_COLOURS.index),
    }
    if content["color"] == "red":
        content["isError"] = True
    return json.dumps(content, indent=2) + "\n"


def _colour(run: Run, verdict: Verdict, profile: str) -> str:
    if verdict.verdict == "conformant":
        return "brightgreen"
    if verdict.verdict == "not claimed":
        return "blue"
    of_profile = {
        name
        for name, entry in run.clauses.items()
        if profile in ("all", *entry["profile"])
    }
    there = {result.outcome for result in run.results if result.clause in of_profile}
    if there & _BROKEN:
        return "red"
    partial = verdict.verdict == "incomplete" or run.missing or run.part
    return "lightgrey" if partial or run.cut & of_profile else "yellow"
