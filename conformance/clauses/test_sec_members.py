"""Chapter SEC: archives that are more, or other, than they seem."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch._inductor.package
import torch.export.pt2_archive._package

from conformance import archives
from conformance.archives import LINK, Entry
from conformance.clauses import _unpacking
from conformance.clauses._packages import (
    Tampering,
    archive,
    assert_refused,
    assert_right_or_refused,
    flipped,
    library,
    ruined,
    tried,
)
from conformance.spec import clause

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conformance.adapter import Packages
    from conformance.cache import PackageCache

_BOMB_BYTES = 512 << 20
_MEMORY_BYTES = 128 << 20
_ROOM_BYTES = 64 << 20
_CROWD = 50_000


@pytest.fixture
def tampering(
    impl: Packages, cache: PackageCache, tmp_path: Path, seed: int
) -> Tampering:
    """Save a compiled Stack, to make copies of it."""
    return Tampering(_unpacking.saved(impl, cache, tmp_path, seed), tmp_path)


@pytest.fixture
def handed_on(tmp_path: Path) -> tuple[Path, Callable[[], None]]:
    """Keep archives from what unpacks them below a layer, and note that one came.

    What a member's name does to another library is that library's own business.
    """
    note = tmp_path / "handed-on"

    def reached(*_args: Any, **_kwargs: Any) -> Any:
        note.touch()
        message = "the archive came through to what unpacks it"
        raise RuntimeError(message)

    def guard() -> None:
        torch._C._aoti.AOTIModelPackageLoader = reached  # type: ignore[misc,assignment]
        torch._C.PyTorchFileReader = reached  # type: ignore[misc,assignment]
        torch._inductor.aoti_load_package = reached
        package: Any = torch._inductor.package
        package.load_package = reached
        torch.export.pt2_archive._package.load_pt2 = reached
        zipfile.ZipFile.extract = reached  # type: ignore[method-assign]
        zipfile.ZipFile.extractall = reached  # type: ignore[method-assign]
        shutil.unpack_archive = reached

    return note, guard


def _root(members: list[Entry]) -> str:
    return members[0].name.partition("/")[0]


@clause("SEC-01")
@pytest.mark.parametrize(
    "name",
    [
        *("../climbed", "{root}/../../climbed", "{root}/a\\..\\b"),
        *("{root}/..\\b", "{root}\\../b", "{root}/../climbed/"),
    ],
)
def test_a_member_that_climbs_is_refused(
    impl: Packages,
    tampering: Tampering,
    temporary: Path,
    seed: int,
    handed_on: Any,
    name: str,
) -> None:
    note, guard = handed_on
    members = tampering.entries()
    climbing = Entry(name.format(root=_root(members)), b"harmless")
    folder = tampering.rewritten([*members, climbing])

    found = tried(impl, [folder], temporary, seed, guard)

    assert not note.exists(), "the archive was handed on unexamined"
    assert_refused(found)


@clause("SEC-02")
def test_a_member_with_an_absolute_name_is_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int, handed_on: Any
) -> None:
    note, guard = handed_on
    absolute = Entry(str(tampering.folder / "absolute"), b"harmless")
    folder = tampering.rewritten([*tampering.entries(), absolute])

    found = tried(impl, [folder], temporary, seed, guard)

    assert not note.exists(), "the archive was handed on unexamined"
    assert_refused(found)


@clause("SEC-03")
def test_a_link_beside_the_members_is_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int, handed_on: Any
) -> None:
    note, guard = handed_on
    members = tampering.entries()
    target = str(tampering.folder / "elsewhere").encode()
    link = Entry(f"{_root(members)}/extra", target, mode=LINK)
    folder = tampering.rewritten([*members, link])

    found = tried(impl, [folder], temporary, seed, guard)

    assert not note.exists(), "the archive was handed on unexamined"
    assert_refused(found)


@clause("SEC-03")
def test_a_member_that_is_a_link_is_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int, handed_on: Any
) -> None:
    note, guard = handed_on
    members = tampering.entries()
    lib = library(members)
    target = str(tampering.folder / "elsewhere").encode()
    link = lib._replace(data=target, mode=LINK)
    folder = tampering.rewritten(link if m is lib else m for m in members)

    found = tried(impl, [folder], temporary, seed, guard)

    assert not note.exists(), "the archive was handed on unexamined"
    assert_refused(found)


@clause("SEC-04")
def test_members_of_one_name_are_right_or_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    members = tampering.entries()
    doubled = []
    for member in members:
        changed = member._replace(data=ruined(member.data))
        doubled += [
            tampering.rewritten([*members, changed]),
            tampering.rewritten([changed, *members]),
        ]

    found = tried(impl, doubled, temporary, seed)

    assert_right_or_refused(found, seed)


@clause("SEC-05")
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_a_second_library_is_not_loaded(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int, *, first: bool
) -> None:
    members = tampering.entries()
    lib = library(members)
    folder, _, file = lib.name.rpartition("/")
    name = f"{folder}/{'a' if first else 'z'}{file[1:]}"
    second = lib._replace(name=name, data=flipped(lib.data, 0.3))
    extra = [second, *members] if first else [*members, second]

    found = tried(impl, [tampering.rewritten(extra)], temporary, seed)

    assert_refused(found)


class _Marks:
    """It makes a folder when it comes out of a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@clause("SEC-06")
@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("data/weights/weight_0", None),
        ("data/constants/custom_obj_0", None),
        ("extra/notes.txt", None),
        ("extra/notes.txt", 0),  # a text
    ],
)
def test_a_pickle_in_an_archive_is_refused(
    impl: Packages,
    tampering: Tampering,
    temporary: Path,
    seed: int,
    name: str,
    protocol: int | None,
) -> None:
    members = tampering.entries()
    mark = tampering.folder / "unpickled"
    pickled = Entry(f"{_root(members)}/{name}", pickle.dumps(_Marks(mark), protocol))

    found = tried(impl, [tampering.rewritten([*members, pickled])], temporary, seed)

    assert not mark.exists(), "the pickle was read"
    assert_refused(found)


@clause("SEC-07")
def test_a_member_that_unpacks_to_much_is_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    members = tampering.entries()
    lib = library(members)
    bomb = tampering.copy()
    with zipfile.ZipFile(archive(bomb), "w", zipfile.ZIP_DEFLATED, True, 1) as made:
        for member in members:
            with made.open(member.name, "w") as file:
                file.write(member.data)
                for _ in range(_BOMB_BYTES >> 20 if member is lib else 0):
                    file.write(bytes(1 << 20))

    def load() -> tuple[Any, int]:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with _unpacking.no_room(_ROOM_BYTES):
            found = _unpacking.outcome(lambda: _unpacking.answer(impl, bomb, seed))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return found, (after - before) * 1024

    found, taken = _unpacking.in_child(load, temporary)

    assert found["words"] is not None, "it was answered"
    assert taken < _MEMORY_BYTES


@clause("SEC-08")
def test_a_crowd_of_members_is_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int
) -> None:
    members = tampering.entries()
    crowd = [Entry(f"{_root(members)}/extra/{n}", b"") for n in range(_CROWD)]

    found = tried(impl, [tampering.rewritten([*members, *crowd])], temporary, seed)

    assert_refused(found)


@clause("SEC-09")
@pytest.mark.parametrize("place", [20, 24], ids=["packed", "unpacked"])
def test_a_member_with_a_false_size_is_refused(
    impl: Packages, tampering: Tampering, temporary: Path, seed: int, place: int
) -> None:
    data = archive(tampering.package).read_bytes()
    lib = library(tampering.entries())
    record = data.rindex(lib.name.encode()) - 46
    (size,) = struct.unpack_from("<I", data, record + place)
    lies = []
    for false in (0, size // 2, size - 1, size + 1, 2 * size, 2**32 - 2):
        changed = bytearray(data)
        struct.pack_into("<I", changed, record + place, false)
        lies.append(tampering.holding(bytes(changed)))

    found = tried(impl, lies, temporary, seed)

    assert archives.find(tampering.package)
    assert_refused(found)
