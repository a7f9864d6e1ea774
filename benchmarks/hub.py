"""Push and load a package with blocks, on a Hub on loopback: how long it takes."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch

import aoti_ref
from benchmarks import record
from conformance.clauses import _hubs
from conformance.loopback import Hub
from conformance.models import blocks, regions

BOTH_AT_MOST_S = 2.0
_REPOSITORY = "acme/blocks"
_ROUNDS = 7


@click.command()
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write JSON."
)
def main(output: Path | None) -> None:
    """Print the seconds of a push and a load, without the compile."""
    figures = measure()
    click.echo(f"first, with imports {figures['first_s']:6.2f} s")
    for name in ("push", "load"):
        click.echo(f"{name:<19} {figures[f'{name}_s']['median']:6.2f} s")
    both = figures["both_s"]["median"]
    click.echo(f"both                {both:6.2f} s (at most {BOTH_AT_MOST_S:g} s)")
    if output is not None:
        record.write(output, "hub", figures)
    sys.exit(both > BOTH_AT_MOST_S)


def measure() -> dict[str, Any]:
    """Compile the blocks, then push and load them, each time with an empty cache."""
    module = blocks.seeded(regions.Twofold)
    with torch.no_grad(), aoti_ref.capture_regions(module) as calls:
        module(**regions.call().kwargs)
    compiled = aoti_ref.compile_regions(module, calls, progress=False)
    rounds = [_round(compiled, number) for number in range(_ROUNDS)]
    return {
        "first_s": sum(rounds[0]),
        "push_s": record.spread([push for push, _ in rounds]),
        "load_s": record.spread([load for _, load in rounds]),
        "both_s": record.spread([push + load for push, load in rounds]),
    }


def _round(compiled: aoti_ref.CompiledRegions, number: int) -> tuple[float, float]:
    variant = f"round-{number}"
    with tempfile.TemporaryDirectory() as folder, Hub() as hub:
        _hubs.connect(hub.url, Path(folder))
        began = time.perf_counter()
        pushed = aoti_ref.push_to_hub(compiled, _REPOSITORY, variant=variant)
        between = time.perf_counter()
        aoti_ref.load_from_hub(
            _REPOSITORY, revision=pushed.revision, trust="acme", variant=variant
        )
        return between - began, time.perf_counter() - between


if __name__ == "__main__":
    main()
