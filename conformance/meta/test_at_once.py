"""What the reference does at once, each in a child: order, number, errors."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from aoti_ref._at_once import at_once
from conformance.isolated import run_forked

if TYPE_CHECKING:
    from pathlib import Path


def _slow_first(index: int) -> tuple[int, int]:
    time.sleep(0.3 if index == 0 else 0)
    return index, os.getpid()


def test_answers_come_in_order_each_from_a_child_of_its_own() -> None:
    def look() -> list[tuple[int, int]]:
        return [*at_once(_slow_first, range(3), 2), (3, os.getpid())]

    answers = run_forked(look, deadline_s=60).answer

    assert [index for index, _ in answers] == [0, 1, 2, 3]
    assert len({pid for _, pid in answers}) == 4


@pytest.mark.parametrize(("items", "jobs"), [(3, 1), (1, 2)])
def test_without_need_there_is_no_child(items: int, jobs: int) -> None:
    answers = at_once(lambda _: os.getpid(), range(items), jobs)

    assert set(answers) == {os.getpid()}


def test_no_more_work_at_once_than_asked_for(tmp_path: Path) -> None:
    def work(index: int) -> int:
        mine = tmp_path / str(index)
        mine.touch()
        time.sleep(0.2)
        found = len(list(tmp_path.iterdir()))
        mine.unlink()
        return found

    counts = run_forked(lambda: list(at_once(work, range(5), 2)), deadline_s=60).answer

    assert max(counts) == 2


def test_the_first_error_ends_what_still_works(tmp_path: Path) -> None:
    def work(index: int) -> None:
        if index == 0:
            raise ArithmeticError
        time.sleep(1)
        (tmp_path / "done").touch()

    def fails() -> float:
        start = time.monotonic()
        with pytest.raises(ArithmeticError):
            list(at_once(work, range(2), 2))
        return time.monotonic() - start

    assert run_forked(fails, deadline_s=60).answer < 1
    time.sleep(1.2)
    assert not (tmp_path / "done").exists()
