"""Make one run of the shards of one: `aoti-conformance merge`.

What was asked must have been the same everywhere, and together the shards must have
been asked all of it, once: a result that is merged is believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conformance.deviations import stale
from conformance.results import Run, footer
from conformance.selection import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SHOWN_CHARACTERS = 80


class CannotMerge(Exception):
    """These runs are not the shards of one; the message is one sentence."""


def merge(runs: Sequence[Run], *, incomplete: bool = False) -> Run:
    """Make one run of `runs`, each of them read from a file.

    Args:
        runs: Every group of one split, in any order; at least one.
        incomplete: Take runs that were cut short, too. What is merged is cut short,
            then, and has no footer where one of them has none.

    Raises:
        CannotMerge: They were not asked the same, or together not all of it once;
            or one was cut short.
    """
    first, *others = sorted(runs, key=lambda run: run.header["shard"]["group"])
    for other in others:
        _check_same(first, other)
    _check_groups([first, *others])
    if not incomplete:
        _check_complete([first, *others])
    plan = _plan([first, *others])
    merged = Run(
        header=_header([first, *others], plan),
        clauses=first.clauses,
        plan=plan,
        results=[result for run in (first, *others) for result in run.results],
    )
    if all(run.footer is not None for run in runs):
        merged.footer = _footer([first, *others], merged)
    return merged


def _facts(run: Run) -> Iterator[tuple[str, Any]]:
    """Everything that must be the same in two shards, each with its name."""
    header, there = run.header, run.header["environment"]
    for name in ("name", "version", "adapter", "capabilities"):
        yield f"the implementation's {name}", header["implementation"].get(name)
    yield "catalogue", header["catalogue"]
    yield "seed", header["seed"]
    yield "number of groups", header["shard"]["splits"]
    yield "expectations", header.get("expected", [])
    yield "known deviations, by their digest", header.get("expectations")
    yield "device", there.get("device", "cpu")
    if there.get("device", "cpu") != "cpu":
        yield "GPUs", sorted(set(there["gpus"]))
    yield "machine", there.get("machine")
    yield "system", there["platform"].partition("-")[0]
    yield "Python", there["python"]
    yield "versions", there["versions"]
    yield "selection of clauses", header.get("cut", [])


def _check_same(first: Run, other: Run) -> None:
    for (what, one), (_, two) in zip(_facts(first), _facts(other), strict=False):
        if one != two:
            raise CannotMerge(
                f"{first.path} and {other.path} differ in {what}: "
                f"{_shown(one, two)} and {_shown(two, one)}"
            )


def _shown(value: Any, other: Any) -> str:
    if isinstance(value, dict):  # of versions, those that differ are enough
        differing = sorted(k for k in {*value, *other} if value.get(k) != other.get(k))
        value = [f"{name} {value.get(name)}" for name in differing]
    text = ", ".join(value) if isinstance(value, list) else str(value)
    cut = len(text) > _SHOWN_CHARACTERS
    return f"{text[:_SHOWN_CHARACTERS]}…" if cut else text or "none"


def _check_groups(runs: Sequence[Run]) -> None:
    splits = runs[0].header["shard"]["splits"]
    seen: dict[int, Run] = {}
    for run in runs:
        group = run.header["shard"]["group"]
        if group in seen:
            raise CannotMerge(
                f"{seen[group].path} and {run.path} are both group {group} of {splits}"
            )
        seen[group] = run
    missing = [str(group) for group in range(1, splits + 1) if group not in seen]
    if missing:
        words = "group" if len(missing) == 1 else "groups"
        raise CannotMerge(
            f"{_names(runs)}: {words} {', '.join(missing)} of {splits} not among them"
        )


def _check_complete(runs: Sequence[Run]) -> None:
    for run in runs:
        if run.footer is None or run.missing:
            raise CannotMerge(
                f"{run.path} was cut short ({len(run.missing)} of its {len(run.plan)} "
                "tests have no result): run it again, or merge with --incomplete"
            )


def _plan(runs: Sequence[Run]) -> dict[str, str]:
    """Put the plans together; the union must be what they were all cut from."""
    owners: dict[str, Run] = {}
    for run in runs:
        for test in run.plan:
            if test in owners:
                raise CannotMerge(
                    f"{owners[test].path} and {run.path} both planned {test}"
                )
            owners[test] = run
    plan = {test: clause for run in runs for test, clause in run.plan.items()}
    for run in runs:
        whole = run.header["shard"]
        if whole.get("digest", digest(plan)) != digest(plan):
            raise CannotMerge(
                f"{_names(runs)}: together they planned {len(plan)} tests, which are "
                f"not the {whole['tests']} that {run.path} was cut from"
            )
    return plan


def _names(runs: Sequence[Run]) -> str:
    return ", ".join(str(run.path) for run in runs)


def _header(runs: Sequence[Run], plan: dict[str, str]) -> dict[str, Any]:
    first = runs[0].header
    started = [run.header["started"] for run in runs if "started" in run.header]
    return {
        **first,
        "shard": {
            "group": 1,
            "splits": 1,
            "tests": len(plan),
            "digest": digest(plan),
        },
        "merged": [
            {
                "group": run.header["shard"]["group"],
                "started": run.header.get("started", ""),
                **{
                    name: run.header["environment"][name]
                    for name in ("platform", "cpus", "gpus")
                },
            }
            for run in runs
        ],
        **({"started": min(started)} if started else {}),
    }


def _footer(runs: Sequence[Run], merged: Run) -> dict[str, Any]:
    told = [run.footer or {} for run in runs]
    # Of a clause that the split went through, no shard could say that it is stale.
    whole = set(merged.plan.values()) - merged.cut
    expected = merged.header.get("expected", [])
    gone = {name for entry in told for name in entry.get("stale", [])}
    gone |= set(stale(expected, merged.outcomes(whole)))
    seconds = sum(entry.get("seconds", 0.0) for entry in told)
    return footer(merged, sorted(gone), seconds)
