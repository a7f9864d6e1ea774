"""Archives that are made to be more than they seem, whatever their manifests say."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import pytest

import aoti_ref
from aoti_ref import _archive, _manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MIB = 1 << 20


def zipped(
    members: Mapping[str, bytes],
    change: Callable[[zipfile.ZipInfo], None] = lambda _entry: None,
) -> bytes:
    """Make an archive as anybody can, not as this project does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name)
            change(entry)
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def test_a_bomb_is_refused_before_it_is_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bomb = zipped({"r/zeros": bytes(80 * MIB)})
    monkeypatch.setattr(_archive, "_content", lambda *_: pytest.fail("unpacked"))

    with pytest.raises(aoti_ref.BrokenPackage, match=f"unpacks to {80 * MIB} bytes"):
        _archive.read(bomb, "test")


def test_what_packs_well_is_written_so_that_it_can_be_read() -> None:
    members = {"r/zeros": bytes(80 * MIB), "r/one": b"1"}

    assert _archive.read(_archive.write(members), "test") == members


def test_a_manifest_without_end_is_refused_unread() -> None:
    members = {f"r/{_manifest.NAME}": bytes(32 * MIB)}
    check = _manifest.sizes_first(_manifest.NAME, "test")

    with pytest.raises(aoti_ref.BrokenPackage, match=f"has {32 * MIB} bytes"):
        _archive.read(zipped(members), "test", check=check)


def _extra(entry: zipfile.ZipInfo) -> None:
    entry.extra = b"\xca\xfe\4\0evil"


def _comment(entry: zipfile.ZipInfo) -> None:
    entry.comment = b"evil"


@pytest.mark.parametrize("change", [_extra, _comment])
def test_bytes_that_no_manifest_vouches_for_are_refused(
    change: Callable[[zipfile.ZipInfo], None],
) -> None:
    assert _archive.read(zipped({"r/a": b"1"}), "test") == {"r/a": b"1"}

    with pytest.raises(aoti_ref.BrokenPackage, match="extra"):
        _archive.read(zipped({"r/a": b"1"}, change), "test")


@pytest.mark.parametrize("place", ["member", "directory"])
def test_an_extra_field_in_one_of_its_two_places_is_refused(place: str) -> None:
    found = zipped({"r/a": b"1"}, _extra)
    at = {"member": found.rindex(b"r/a") + 3, "directory": found.index(b"r/a") + 3}
    counts = {"member": found.rindex(b"PK\1\2") + 30, "directory": 28}
    one = bytearray(found)
    one[counts[place] : counts[place] + 2] = b"\0\0"
    del one[at[place] : at[place] + 8]  # the other one stays
    end = len(one) - 22
    size, start = (
        int.from_bytes(one[end + n : end + n + 4], "little") for n in (12, 16)
    )
    size, start = (size - 8, start) if place == "member" else (size, start - 8)
    one[end + 12 : end + 20] = size.to_bytes(4, "little") + start.to_bytes(4, "little")

    assert zipfile.ZipFile(io.BytesIO(one)).read("r/a") == b"1"
    with pytest.raises(aoti_ref.BrokenPackage, match="extra"):
        _archive.read(bytes(one), "test")
