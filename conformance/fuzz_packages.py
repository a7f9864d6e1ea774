"""The fuzz of packages: a good one, damaged, each answered rightly or refused.

One kind edits a fact and has the adapter make all digests right again, where it has
`reseal`: what is behind the digests has to hold by itself. Names that climb, absolute
names and links are left to the clauses of chapter SEC, which keep such archives from
whatever unpacks them.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch._inductor.cpu_vec_isa import valid_vec_isa_list

from conformance import archives, isolated
from conformance.cache import PackageCache
from conformance.fuzz_results import (
    CRASHED,
    EQUAL,
    LEFT,
    REFUSED,
    UNNAMED,
    WRONG,
    Case,
    Finding,
)
from conformance.models import blocks
from conformance.mutations import KINDS, RESEALED
from conformance.workbench import attempt, is_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conformance.adapter import Adapter, Packages

SUBJECT = "package"
_COMPILE_S = 900
_CASE_S = 60
_NEAR = 1e-3


def plan(count: int, seed: int) -> list[Case]:
    """Draw `count` mutations, all kinds in turn."""
    names = list(KINDS)
    draw = random.Random(seed)  # noqa: S311  # it is for repeating
    return [
        Case(SUBJECT, names[number % len(names)], draw.randrange(2**31))
        for number in range(count)
    ]


class Campaign:
    """A fuzz of the packages of one implementation.

    Args:
        adapter: The implementation.
        root: The folder of the package cache.
        seed: For the weights.
        workers: How many children at a time.
    """

    def __init__(self, adapter: Adapter, root: Path, seed: int, workers: int) -> None:
        self.adapter = cast("Packages", adapter)
        self.root = root
        self.seed = seed
        self.workers = workers
        self.not_compiled: dict[str, str] = {}

    def run(self, cases: Sequence[Case]) -> Iterator[Finding]:
        """Save a package, and judge a mutation of it for each case."""
        isolated.warm_up(self.root)
        with tempfile.TemporaryDirectory() as name:
            package = Path(name) / "package"
            package.mkdir()
            made = isolated.run_forked(
                lambda: self._save(package), deadline_s=_COMPILE_S
            )
            if made.kind != "answer":
                last = made.text.strip().splitlines()[-1:]
                self.not_compiled[SUBJECT] = last[0] if last else made.kind
                return
            # torch asks a compiler what the processor can do, in every process anew.
            valid_vec_isa_list()
            with ThreadPoolExecutor(self.workers) as pool:
                yield from pool.map(
                    lambda case: self._judged(case, package, made.answer), cases
                )

    def _save(self, package: Path) -> Any:
        """Save what is compiled or cached, and give eager's answer."""
        cache = PackageCache(self.root, self.adapter)
        self.adapter.save(
            cache.compiled(blocks.seeded(blocks.Stack, self.seed), blocks.call()),
            package,
        )
        with torch.no_grad():
            module = blocks.seeded(blocks.Stack, self.seed)
            return module(**blocks.call().kwargs)[0].tolist()

    def _judged(self, case: Case, package: Path, wanted: Any) -> Finding:
        """Mutate a copy, and have a child load, apply and call it."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "package"
            temporary = Path(name) / "temporary"
            temporary.mkdir()
            shutil.copytree(package, folder)
            file = max(archives.find(folder), key=lambda path: path.stat().st_size)
            draw = random.Random(f"{case.kind} {case.seed}")  # noqa: S311
            file.write_bytes(KINDS[case.kind](file.read_bytes(), draw))
            if case.kind == RESEALED and hasattr(self.adapter, "reseal"):
                self.adapter.reseal(folder)
            ending = isolated.run_forked(
                lambda: self._outcome(folder, temporary, wanted), deadline_s=_CASE_S
            )
        if ending.kind == "answer":
            return Finding(case, *ending.answer)
        return Finding(case, CRASHED, ending.text.strip().partition("\n")[0])

    def _outcome(self, folder: Path, temporary: Path, wanted: Any) -> tuple[str, str]:
        os.environ["TMPDIR"] = str(temporary)
        tempfile.tempdir = None
        module = blocks.seeded(blocks.Stack, self.seed)

        def answer() -> torch.Tensor:
            self.adapter.apply(self.adapter.load(folder), module)
            with torch.no_grad():
                found: torch.Tensor = module(**blocks.call().kwargs)[0]
            return found

        blocks.entered.clear()
        ended = attempt(answer)
        if ended.error is not None:
            detail = f"{type(ended.error).__name__}: {ended.error}"
            left = sorted(path.name for path in temporary.iterdir())
            if not is_refusal(ended.error):
                return UNNAMED, detail
            return (LEFT, f"{left[0]} after {detail}") if left else (REFUSED, detail)
        if blocks.entered:
            return WRONG, "eager code answered"
        if not torch.allclose(ended.value, torch.tensor(wanted), _NEAR, _NEAR):
            return WRONG, "the answer is another one than eager's"
        return EQUAL, ""
