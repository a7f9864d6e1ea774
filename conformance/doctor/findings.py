"""What the doctor found."""

from __future__ import annotations

from dataclasses import dataclass

GOOD, NOTE, BREAKS = "good", "note", "breaks"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        check: The name of the check, as `--check` takes it.
        level: `good`; `note`, which some users run into; `breaks`, which all do.
        found: What is there, in a sentence.
        cure: What to do about it; empty if it is good.
    """

    check: str
    level: str
    found: str
    cure: str = ""
