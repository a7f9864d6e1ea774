"""The verdict per profile, from the outcomes per clause."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conformance.adapter import CAPABILITIES
from conformance.spec import PROFILES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

# Of a clause in the profile of something claimed: it needs what is not, and that need
# not be one of its profiles.
_UNASKED = {"unsupported"}


@dataclass(frozen=True)
class Verdict:
    """`conformant`, `not conformant`, `incomplete` or `not claimed`, and why."""

    verdict: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.verdict} ({self.why})" if self.why else self.verdict


def verdicts(
    profiles: Mapping[str, Collection[str]],
    outcomes: Mapping[str, Sequence[str]],
    capabilities: Collection[str],
    *,
    cut: Collection[str] = (),
    part: str = "",
) -> dict[str, Verdict]:
    """Judge every profile that has clauses, and `all`.

    Args:
        profiles: The profiles of every clause of the catalogue.
        outcomes: Per clause, the outcomes of its planned tests; `missing` where
            there is none yet.
        capabilities: What the implementation declares.
        cut: The clauses of which not every test was asked for.
        part: Which part of a split run this is; empty if it is all of it.
    """
    found = {}
    claimed = set(capabilities)
    lacking = CAPABILITIES.keys() - claimed
    for profile in PROFILES:
        # A clause that needs something else, too, which nobody claims, is left out.
        members = [
            name
            for name, entry in profiles.items()
            if profile in entry
            and not (lacking - {profile}).intersection(entry)
            and not (profile in claimed and {*outcomes.get(name, ())} == _UNASKED)
        ]
        if members and profile in CAPABILITIES and profile not in capabilities:
            found[profile] = Verdict("not claimed")
        elif members:
            found[profile] = _judge(members, outcomes, cut, part)
    found["all"] = _judge(list(profiles), outcomes, cut, part)
    return found


def _judge(
    clauses: Sequence[str],
    outcomes: Mapping[str, Sequence[str]],
    cut: Collection[str],
    part: str,
) -> Verdict:
    counts = Counter(outcome for name in clauses for outcome in outcomes.get(name, ()))
    untested = sum(not outcomes.get(name) for name in clauses)
    partly = sum(bool(outcomes.get(name)) and name in cut for name in clauses)
    counts.pop("pass", None)
    missing = counts.pop("missing", 0)
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    parts = [f"{number} {outcome}" for outcome, number in ranked]
    if missing:
        parts.append(f"{missing} without a result")
    if untested:
        parts.append(f"{untested} of {len(clauses)} clauses not run")
    if partly:
        parts.append(f"{partly} of {len(clauses)} clauses run in part")
    if part:
        parts.append(part)
    why = ", ".join(parts)
    if counts:
        return Verdict("not conformant", why)
    if missing or untested or partly or part or not clauses:
        return Verdict("incomplete", why or "no clauses")
    return Verdict("conformant")
