"""Which clause tests there are, which were asked for, and which run here.

A shard of a run knows only its own tests; what it writes of the others (how many,
and a digest of their names) is what a merge finds a gap by.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Selection:
    """The clause tests of one session, before and after some of them were left out."""

    def __init__(self) -> None:
        self._there: Counter[str] = Counter()
        self._asked: dict[str, str] = {}
        self._by_name = False

    def collect(self, clauses: Iterable[str]) -> None:
        """Note the clause of every test that was collected."""
        self._there.update(clauses)

    def ask(self, tests: Mapping[str, str], *, by_name: bool) -> None:
        """Note what was asked for, by all shards together.

        Args:
            tests: The clause of each test, by its id.
            by_name: Whether single tests were named, so that more may be there.
        """
        self._asked = dict(tests)
        self._by_name = by_name

    @property
    def whole(self) -> dict[str, Any]:
        """What a header says of all shards: the number of tests, and their digest."""
        return {"tests": len(self._asked), "digest": digest(self._asked)}

    @property
    def cut(self) -> list[str]:
        """The clauses of which only some tests were asked for, by whatever option."""
        return sorted(set(self._asked.values()) - self.judged(self._asked.values()))

    def judged(self, planned: Iterable[str]) -> set[str]:
        """The clauses of which every test is `planned`: those that can be stale."""
        if self._by_name:
            return set()
        counts = Counter(planned)
        return {name for name, there in self._there.items() if counts[name] == there}


def digest(tests: Iterable[str]) -> str:
    """The sha256 of the ids of `tests`, in whatever order they come."""
    return hashlib.sha256("\n".join(sorted(tests)).encode()).hexdigest()
