"""Chapter PKG: one operator of several, paths as they are given, names of folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.clauses._packages import (
    Tampering,
    archive,
    assert_refused,
    assert_right,
    tried,
)
from conformance.spec import clause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conformance.adapter import Labels, Packages

HERE, GONE, OTHER = "aten::add", "elsewhere::attention", "elsewhere::norm"


@clause("PKG-07")
@pytest.mark.parametrize(
    ("ops", "missing"),
    [
        ([HERE, GONE], [GONE]),
        ([GONE, HERE], [GONE]),
        ([HERE, GONE, OTHER], [GONE, OTHER]),
        (["aten::no_such_operator"], ["aten::no_such_operator"]),
    ],
    ids=["last", "first", "two", "of a library that is there"],
)
def test_a_missing_operator_among_others_is_named(
    impl: Labels,
    package: Path,
    temporary: Path,
    seed: int,
    ops: Sequence[str],
    missing: Sequence[str],
) -> None:
    impl.relabel(package, ops=ops)

    found = tried(impl, [package], temporary, seed)

    assert_refused(found, *missing)


def _damaged(package: Path, tmp_path: Path) -> Path:
    tampering = Tampering(package, tmp_path)
    data = archive(package).read_bytes()
    return tampering.holding(data[: len(data) // 2])


@clause("PKG-20")
def test_a_refusal_names_a_package_by_the_relative_path_that_was_given(
    impl: Packages,
    package: Path,
    temporary: Path,
    tmp_path: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damaged = _damaged(package, tmp_path)
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    given = Path("..", damaged.name)

    found = tried(impl, [given], temporary, seed)

    assert_refused(found, str(given))


@clause("PKG-20")
def test_a_refusal_names_a_package_by_the_link_that_was_given(
    impl: Packages, package: Path, temporary: Path, tmp_path: Path, seed: int
) -> None:
    given = tmp_path / "a-link"
    given.symlink_to(_damaged(package, tmp_path), target_is_directory=True)

    found = tried(impl, [given], temporary, seed)

    assert_refused(found, str(given))


@clause("PKG-24")
@pytest.mark.parametrize("name", ["my model-1.5", "Modèle", "data", "archive2"])
def test_the_root_folder_of_an_archive_may_have_a_file_s_name(
    impl: Packages, package: Path, temporary: Path, tmp_path: Path, seed: int, name: str
) -> None:
    tampering = Tampering(package, tmp_path)
    renamed = tampering.rewritten(
        m._replace(name=f"{name}/{m.name.partition('/')[2]}")
        for m in tampering.entries()
    )

    found = tried(impl, [renamed], temporary, seed)

    assert_right(found, seed)
