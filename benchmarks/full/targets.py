"""What rows are held to, as ratios of figures of one run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Rows = dict[str, dict[str, Any]]
_MB = 1e6
_REGIONAL_LATENCY = 1.02
_REGIONAL_COMPILE = 1 / 4
_RESIDENT = 1.02
_RESIDENT_THREE = 1.03  # with graphs for three resolutions
_BLOCK_MB = 3.0
_WHOLE = "aoti_ref_whole"  # and what it is with tuning, of which the best counts
_WHOLE_SPEED = 1.45  # times eager
_FIRST_RESULT_S = 2.0
_ERROR = 3.0  # times eager's, as clause NUM-02 has it
_FP8_REGIONAL = re.compile(r"fp8_\w+_regional")
_FP8_SPEED = 1.9  # times eager
_FP8_DB = 20.0
_NO_SLOWER = 0.99  # measurements of one thing differ by this much


class Verdict(NamedTuple):
    """A target, and what was found."""

    text: str
    found: float
    good: bool

    def line(self) -> str:
        """Spell it."""
        return f"{'good' if self.good else 'BAD '} {self.text}: {self.found:.3g}"


def judge(rows: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """Judge the rows that are there; a target whose rows are not is not judged."""
    done = {n: dict(row) for n, row in rows.items() if row.get("outcome") == "ok"}
    return [verdict for check in _CHECKS for verdict in check(done)]


def speed(row: Mapping[str, Any]) -> float:
    """Give how many times faster than eager a row is, within its own process."""
    found: float = row["measure"]["ratio"]["median"]
    return found


def resident(row: Mapping[str, Any], eager: Mapping[str, Any] | None) -> float | None:
    """Give a row's resident memory as a multiple of its weights.

    What libraries take for eager's own kernels is taken off, where eager is known.
    """
    measured = row["measure"]
    if measured["resident_bytes"] is None:
        return None
    weights: int = measured["weights_bytes"]
    own = eager["measure"] if eager else measured
    libraries = own["resident_bytes"] - own["weights_bytes"] if eager else 0
    return float(measured["resident_bytes"] - libraries) / weights


def _at_most(text: str, found: float, most: float) -> Verdict:
    return Verdict(f"{text} (at most {most:.3g})", found, found <= most)


def _at_least(text: str, found: float, least: float) -> Verdict:
    return Verdict(f"{text} (at least {least:.3g})", found, found >= least)


def _regional(rows: Rows) -> Iterator[Verdict]:
    whole, regional = rows.get("aoti_ref_whole"), rows.get("aoti_ref_regional")
    if regional:
        largest = max(regional["prepare"]["graphs_bytes"].values()) / _MB
        yield _at_most("package of a block, MB", largest, _BLOCK_MB)
    if whole and regional:
        slower = speed(whole) / speed(regional)
        yield _at_most("regional latency to whole", slower, _REGIONAL_LATENCY)
        costs = [row["prepare"]["total_s"] for row in (regional, whole)]
        share = costs[0] / costs[1]
        yield _at_most("regional compile to whole", share, _REGIONAL_COMPILE)


def _memory(rows: Rows) -> Iterator[Verdict]:
    for name, row in rows.items():
        found = resident(row, rows.get("eager"))
        if name.startswith(("aoti_ref", "fp8")) and found is not None:
            most = _RESIDENT_THREE if name.endswith("resolutions") else _RESIDENT
            yield _at_most(f"{name}: resident to weights", found, most)


def _fast(rows: Rows) -> Iterator[Verdict]:
    whole = rows.get("aoti_ref_whole")
    speeds = {n: speed(row) for n, row in rows.items() if n.startswith(_WHOLE)}
    if speeds:
        best = max(speeds, key=lambda name: speeds[name])
        yield _at_least(f"{best} to eager", speeds[best], _WHOLE_SPEED)
    if whole:
        first = whole["measure"]["first"]["total_s"]
        yield _at_most("aoti_ref_whole: first result, s", first, _FIRST_RESULT_S)
    for kind in ("whole", "regional"):
        ours = rows.get(f"aoti_ref_{kind}")
        for other in ("spaces", "torch"):
            theirs = rows.get(f"{other}_{kind}")
            if ours and theirs:
                text = f"aoti_ref_{kind} to {other}_{kind}"
                yield _at_least(text, speed(ours) / speed(theirs), _NO_SLOWER)


def _right(rows: Rows) -> Iterator[Verdict]:
    for name, row in rows.items():
        found = row["measure"]["error"], row["measure"]["eager_error"]
        if name.startswith("aoti_ref") and None not in found:
            yield _at_most(f"{name}: error to eager's", found[0] / found[1], _ERROR)


def _quantised(rows: Rows) -> Iterator[Verdict]:
    speeds = {n: speed(row) for n, row in rows.items() if _FP8_REGIONAL.match(n)}
    if speeds:
        best = max(speeds, key=lambda name: speeds[name])
        yield _at_least(f"{best} to eager", speeds[best], _FP8_SPEED)
    for name, row in rows.items():
        if not name.startswith("fp8"):
            continue
        decibels = row["measure"].get("blocks_db") or {}
        for kind, found in decibels.items():
            yield _at_least(f"{name}: {kind} to bf16, dB", found, _FP8_DB)


_CHECKS: tuple[Callable[[Rows], Iterator[Verdict]], ...] = (
    _regional,
    _memory,
    _fast,
    _right,
    _quantised,
)
