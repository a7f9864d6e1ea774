"""What a measurement leaves behind: figures, the machine, the command."""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from conformance.environment import describe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def spread(values: Sequence[float]) -> dict[str, float]:
    """Give the median of `values` and the quartiles around it."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "quartile_1": low, "quartile_3": high}


def write(path: Path, name: str, figures: dict[str, Any]) -> None:
    """Write figures as JSON, with the environment that they hold for.

    Raises:
        OSError: It cannot be written.
    """
    content = {
        "benchmark": name,
        "environment": describe(),
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *_options()]),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "figures": figures,
    }
    # Whole or not at all: whoever is killed while writing keeps what it wrote before.
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)


def _options() -> list[str]:
    """Give the options of this run, without the file that it writes."""
    given = iter(sys.argv[1:])
    kept = []
    for word in given:
        if word == "--output":
            next(given, None)
        elif not word.startswith("--output="):
            kept.append(word)
    return kept
