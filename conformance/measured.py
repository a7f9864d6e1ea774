"""What benchmark programs wrote, as bars and checks for the board in HTML.

Such a file is one JSON object with `environment` and `figures`. Nothing here knows a
single benchmark: figures whose shape says what they are become bars, the rest is left
to the file.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from conformance import lines
from conformance.lines import BrokenResults

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SUFFIX = ".json"
_UNITS = ("ms", "us", "s", "bytes")
_SPREAD = ("quartile_1", "median", "quartile_3")
_LARGE = 100
_SCHEMA = {
    "type": "object",
    "properties": {
        "environment": {
            "type": "object",
            "properties": {
                "gpus": {"type": "array", "items": {"type": "string"}},
                "cpus": {"type": "integer"},
                "versions": {"type": "object"},
            },
            "required": ["gpus", "cpus", "versions"],
        },
        "figures": {"type": ["object", "array"]},
    },
}


class Bar(NamedTuple):
    """A figure and the range that half, or all, of its repetitions fell into."""

    name: str
    low: float
    value: float
    high: float

    @property
    def text(self) -> str:
        """The figure as the page writes it."""
        ends = "" if self.low == self.high else f" ({_number(*self[1::2])})"
        return f"{_number(self.value)}{ends}"


class Chart(NamedTuple):
    """Bars of one unit."""

    title: str
    unit: str
    bars: tuple[Bar, ...]

    @property
    def most(self) -> float:
        """The end of the axis."""
        return max(bar.high for bar in self.bars)


class Check(NamedTuple):
    """A figure that was to be something."""

    name: str
    found: str
    wanted: str
    good: bool


@dataclass(frozen=True)
class Measured:
    """One file.

    Args:
        name: The benchmark.
        environment: Where it ran.
        made: The command and the time, as far as the file has them.
        charts: Figures to draw.
        checks: Figures that were to be something.
    """

    name: str
    environment: Mapping[str, Any]
    made: str
    charts: tuple[Chart, ...]
    checks: tuple[Check, ...]


def read(path: Path) -> Measured:
    """Read the file at `path`.

    Raises:
        BrokenResults: It is none.
    """
    return parse(path, lines.text_of(path))


def parse(path: Path, text: str) -> Measured:
    """Read the file at `path`, which says `text`.

    Raises:
        BrokenResults: It is no file of a benchmark.
    """
    found = lines.parsed(path, None, text)
    if found is None or not {"environment", "figures"} <= found.keys():
        raise BrokenResults(path, None, "is no file of a benchmark")
    lines.check(path, None, found, lines.validator(_SCHEMA))
    figures = found["figures"]
    try:
        charts, checks = tuple(_charts(figures)), tuple(_checks(figures))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        problem = "its figures are not as a benchmark writes them"
        raise BrokenResults(path, None, problem) from error
    title = figures.get("title") if isinstance(figures, dict) else None
    return Measured(
        str(title or found.get("benchmark") or path.stem),
        found["environment"],
        ", ".join(str(found[key]) for key in ("command", "finished") if key in found),
        charts,
        checks,
    )


def _charts(figures: Any, title: str = "") -> Iterable[Chart]:
    """Find what can be drawn, from the outside in."""
    if not isinstance(figures, dict):
        return
    if "rows" in figures and "base" in figures:  # a full-size model
        bars = [
            _spread(name, row["measure"]["ratio"])
            for name, row in figures["rows"].items()
            if row["outcome"] == "ok"
        ]
        yield from _chart("times faster than eager", "", bars)
        return
    shares = {n: f for n, f in figures.items() if n.startswith("ratio")}
    others = {n: f for n, f in figures.items() if n not in shares}
    spreads = {n: f for n, f in others.items() if _is_spread(f)}
    bars = [_spread(name, found) for name, found in spreads.items()]
    yield from _chart(title, str(figures.get("unit", "")), bars)
    for unit in _UNITS:
        ending = f"_{unit}"
        named = {
            name.removesuffix(ending): _repeated(name.removesuffix(ending), found)
            for name, found in others.items()
            if name.endswith(ending) and not name.startswith("target")
        }
        bars = [bar for bar in named.values() if bar]
        yield from _chart(title, unit, bars)
    for name, found in others.items():
        # A `median` of `rounds`, which are drawn, is not drawn again.
        if name in {*spreads, "median"} or not isinstance(found, dict):
            continue
        unit = next((unit for unit in _UNITS if name.endswith(f"_{unit}")), "")
        plain = [_repeated(key, value) for key, value in found.items()] if unit else []
        named_so = name.removesuffix(f"_{unit}").replace("_", " ")
        yield from _chart(named_so, unit, [bar for bar in plain if bar])
        yield from _charts(found, named_so)


def _chart(title: str, unit: str, bars: list[Bar]) -> Iterable[Chart]:
    """Give a chart, where there is something to compare."""
    if len(bars) > 1 and max(bar.high for bar in bars) > 0:
        yield Chart(title, unit, tuple(bars))


def _is_spread(found: Any) -> bool:
    return isinstance(found, dict) and set(_SPREAD) <= found.keys()


def _spread(name: str, found: Mapping[str, float]) -> Bar:
    low, value, high = (found[key] for key in _SPREAD)
    if not all(_is_number(number) for number in (low, value, high)):
        raise ValueError(name)
    return Bar(name, low, value, high)


def _is_number(found: Any) -> bool:
    number = isinstance(found, (int, float)) and not isinstance(found, bool)
    return number and math.isfinite(found)


def _repeated(name: str, found: Any) -> Bar | None:
    """Make a bar of a number, or of the median and the ends of several."""
    several = found if isinstance(found, list) else [found]
    if not several or not all(_is_number(number) for number in several):
        return None
    middle = statistics.median(several)
    return Bar(name, min(several), middle, max(several))


def _checks(figures: Any) -> Iterable[Check]:
    if isinstance(figures, list):
        for found in figures:
            wanted, good = str(found["wanted"]), bool(found["good"])
            yield Check(str(found["name"]), str(found["found"]), wanted, good)
        return
    for name, good in figures.get("good", {}).items():
        yield Check(name, "yes" if good else "no", "yes", bool(good))
    for found in figures.get("targets", ()):
        number = found["found"]
        told = _number(number) if isinstance(number, float) else str(number)
        yield Check(str(found["text"]), told, "", bool(found["good"]))


def _number(*numbers: float) -> str:
    """Write numbers of one size to three digits or so."""
    return " to ".join(
        f"{number:,.0f}" if abs(number) >= _LARGE else f"{number:.3g}"
        for number in numbers
    )
