"""Chapter PKG: packages that were cut, changed or mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance import archives, isolated
from conformance.clauses import _hosts, _unpacking
from conformance.clauses._applied import unless_refused
from conformance.clauses._packages import (
    Tampering,
    archive,
    assert_refused,
    assert_right,
    assert_right_or_refused,
    edited,
    exchanged,
    flipped,
    library,
    tried,
)
from conformance.models import blocks
from conformance.models.blocks import seeded
from conformance.models.compiling import Small, rows
from conformance.models.literals import Toned
from conformance.spec import clause

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter import Packages
    from conformance.cache import PackageCache

_CUTS = 24


@pytest.fixture
def other(impl: Packages, cache: PackageCache, tmp_path: Path) -> Path:
    """Save a compiled Small."""
    folder = tmp_path / "other"
    folder.mkdir()

    def save() -> None:
        impl.save(cache.compiled(seeded(Small), rows()), folder)

    ending = isolated.run_forked(save, deadline_s=_unpacking.COMPILE_S)
    assert ending.kind == "answer", ending.text
    return folder


@pytest.fixture
def toned(
    impl: Packages, cache: PackageCache, tmp_path: Path, seed: int
) -> list[Tampering]:
    """Save a compiled Toned, to make copies of it; none if it is refused."""
    folder = tmp_path / "toned"
    folder.mkdir()

    def save() -> int:
        module = seeded(Toned, seed)
        saves = unless_refused(
            lambda: impl.save(cache.compiled(module, blocks.call()), folder)
        )
        return len(saves)

    ending = isolated.run_forked(save, deadline_s=_unpacking.COMPILE_S)
    assert ending.kind == "answer", ending.text
    return [Tampering(folder, tmp_path)] * ending.answer


@pytest.fixture
def tampering(package: Path, tmp_path: Path) -> Tampering:
    """Make copies of the package."""
    return Tampering(package, tmp_path)


@clause("PKG-08")
def test_a_package_that_is_cut_short_is_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    data = archive(tampering.package).read_bytes()
    places = [1, 100, *(len(data) * n // _CUTS for n in range(1, _CUTS))]
    cut = [tampering.holding(data[:end]) for end in [*places, len(data) - 1]]

    found = tried(impl, cut, temporary, seed)

    assert_refused(found)


@clause("PKG-09")
def test_a_package_without_a_member_is_right_or_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    members = tampering.entries()
    lacking = [
        tampering.rewritten(m for m in members if m is not lost) for lost in members
    ]

    found = tried(impl, lacking, temporary, seed)

    assert_right_or_refused(found, seed)


@clause("PKG-09")
def test_a_package_without_its_archive_is_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    lacking = tampering.copy()
    archive(lacking).unlink()

    found = tried(impl, [lacking], temporary, seed)

    assert_refused(found)


@clause("PKG-10")
def test_a_member_that_was_changed_is_refused_or_harmless(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    members = tampering.entries()
    changed = [
        tampering.rewritten(exchanged(members, m.name, flipped(m.data, place)))
        for m in members
        for place in (0.0, 0.5, 1.0)
    ]

    found = tried(impl, changed, temporary, seed)

    assert_right_or_refused(found, seed)


@clause("PKG-10")
def test_numbers_of_the_code_that_were_changed_are_refused_or_harmless(
    impl: Packages, toned: list[Tampering], temporary: Path, seed: int
) -> None:
    for tampering in toned:
        members = tampering.entries()
        changed = [
            tampering.rewritten(exchanged(members, m.name, flipped(m.data, place)))
            for m in members
            for place in (0.5, 0.7, 0.9)  # headers come first, and padding last
        ]

        found = tried(impl, changed, temporary, seed, make=Toned)

        assert_right_or_refused(found, seed, Toned)


@clause("PKG-10")
def test_a_library_that_was_changed_is_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    members = tampering.entries()
    lib = library(members)
    changed = [
        tampering.rewritten(exchanged(members, lib.name, flipped(lib.data, n / 16)))
        for n in range(1, 16)
    ]

    found = tried(impl, changed, temporary, seed)

    assert_refused(found)


@clause("PKG-11")
def test_a_library_of_another_package_is_refused(
    impl: Packages, tampering: Tampering, other: Path, temporary: Path, seed: int
) -> None:
    members = tampering.entries()
    foreign = library(archives.entries(archive(other))).data
    mixed = tampering.rewritten(exchanged(members, library(members).name, foreign))

    found = tried(impl, [mixed], temporary, seed)

    assert_refused(found)


@clause("PKG-11")
def test_exchanged_members_are_refused_or_harmless(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    members = tampering.entries()
    turned = [*members[1:], members[0]]
    swapped = tampering.rewritten(
        m._replace(data=o.data) for m, o in zip(members, turned, strict=True)
    )

    found = tried(impl, [swapped], temporary, seed)

    assert_right_or_refused(found, seed)


@clause("PKG-12")
def test_facts_that_were_edited_are_refused_or_harmless(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    members = tampering.entries()
    changed = [
        tampering.rewritten(exchanged(members, m.name, text))
        for m in members
        for text in edited(m.data)
    ]

    found = tried(impl, changed, temporary, seed)

    assert changed, "the package says nothing of itself"
    assert_right_or_refused(found, seed)


@clause("PKG-13")
@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"no package at all\n"])
def test_what_is_no_package_is_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int, content: bytes
) -> None:
    folder = tampering.holding(content)

    found = tried(impl, [folder], temporary, seed)

    assert_refused(found)
    assert "outdated" not in (found[0].words or "")


@clause("PKG-17")
def test_a_refused_package_leaves_no_file(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    found = tried(impl, _refused(tampering), temporary, seed)

    assert_refused(found)
    assert [each.left for each in found] == [[]] * len(found)


@clause("PKG-18")
def test_a_refused_package_is_not_half_applied(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    found = tried(impl, _refused(tampering), temporary, seed)

    assert_refused(found)
    assert [each.untouched for each in found] == [True] * len(found)


@clause("PKG-19")
def test_the_code_of_a_refused_package_is_not_loaded(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    members = tampering.entries()
    lib = library(members)
    last = tampering.rewritten(exchanged(members, lib.name, flipped(lib.data, 1.0)))
    whole = tampering.copy()

    changed = tried(impl, [last], temporary, seed)
    elsewhere = tried(impl, [whole], temporary, seed, _hosts.has_other_torch)

    assert_refused([*changed, *elsewhere])
    assert [each.mapped for each in [*changed, *elsewhere]] == [0, 0]


@clause("PKG-20")
def test_a_refusal_names_the_package(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    for folder in _refused(tampering):
        found = tried(impl, [folder], temporary, seed)

        assert_refused(found, str(folder))


@clause("PKG-24")
def test_the_root_folder_of_an_archive_may_have_any_name(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    renamed = tampering.rewritten(
        m._replace(name=f"elsewhere/{m.name.partition('/')[2]}")
        for m in tampering.entries()
    )

    found = tried(impl, [renamed], temporary, seed)

    assert_right(found, seed)


def _refused(tampering: Tampering) -> list[Path]:
    """Make packages that nobody can take: one cut short, one without a library."""
    data = archive(tampering.package).read_bytes()
    members = tampering.entries()
    lib = library(members)
    return [
        tampering.holding(data[: len(data) // 2]),
        tampering.rewritten(m for m in members if m is not lib),
        tampering.rewritten(exchanged(members, lib.name, lib.data[:4096])),
    ]
