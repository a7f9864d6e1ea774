"""What saving does to what is there: nothing is lost, and nothing is left."""

from __future__ import annotations

import os
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from aoti_ref import _saving
from conformance.isolated import run_forked

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "mark.json"
FILES = {"a/one": b"1", MARK: b'{"members": {"a/one": {}}}'}


def found(folder: Path) -> dict[str, bytes]:
    """Read all files below a folder, hidden ones too."""
    files = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "a/two", ".git/HEAD"], ids=["root", "in", "hidden"]
)
def test_a_folder_with_a_file_of_somebody_else_is_not_replaced(
    tmp_path: Path, name: str
) -> None:
    place = tmp_path / "place"
    _saving.write_folder(place, FILES, MARK)
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).write_bytes(b"theirs")

    with pytest.raises(FileExistsError, match=name):
        _saving.write_folder(place, {**FILES, "a/one": b"2"}, MARK)

    assert found(tmp_path) == {
        f"place/{n}": data for n, data in {**FILES, name: b"theirs"}.items()
    }


def test_a_link_in_a_folder_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    _saving.write_folder(tmp_path / "place", FILES, MARK)
    (tmp_path / "place" / "link").symlink_to(tmp_path / "theirs")

    with pytest.raises(FileExistsError, match="link"):
        _saving.write_folder(tmp_path / "place", FILES, MARK)


def test_a_folder_of_our_own_is_replaced(tmp_path: Path) -> None:
    for files in (FILES, {MARK: b"{}"}):
        _saving.write_folder(tmp_path / "place", files, MARK)
        assert found(tmp_path / "place") == files

    assert os.listdir(tmp_path) == ["place"]  # noqa: PTH208


def test_a_folder_that_cannot_be_put_in_place_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    _saving.write_folder(place, FILES, MARK)

    def fails(*_args: object) -> None:
        raise OSError(5, "the disk has failed")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="has failed"):
        _saving.write_folder(place, {MARK: b"new"}, MARK)

    assert found(tmp_path) == {f"place/{name}": data for name, data in FILES.items()}


def killed(save: Callable[[], None]) -> None:
    """End a child in the middle of `save`: when it would put in place what it made."""

    def child() -> None:
        with patch.object(Path, "replace", lambda *_: os.kill(os.getpid(), SIGKILL)):
            save()

    ending = run_forked(child, deadline_s=30)
    assert ending.text == "ended by SIGKILL"


def test_what_a_killed_save_leaves_goes_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "package.pt2"
    path.write_bytes(b"before")

    killed(lambda: _saving.write_whole(path, b"lost"))
    assert path.read_bytes() == b"before"
    assert len(found(tmp_path)) > 1  # or the next lines show nothing
    _saving.write_whole(tmp_path / "other.pt2", b"other")

    assert found(tmp_path) == {"package.pt2": b"before", "other.pt2": b"other"}


def test_a_folder_that_a_killed_save_moved_away_comes_back(tmp_path: Path) -> None:
    place = tmp_path / "place"
    _saving.write_folder(place, FILES, MARK)

    killed(lambda: _saving.write_folder(place, {MARK: b"new"}, MARK))
    assert not place.exists()
    _saving.write_whole(tmp_path / "other.pt2", b"other")

    assert found(place) == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.pt2", "place"]


def test_what_the_living_write_is_left_alone(tmp_path: Path) -> None:
    with _saving._beside(tmp_path / "one") as folder:
        _saving.write_whole(tmp_path / "two", b"2")
        assert folder.is_dir()


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644)])
def test_files_have_the_mode_that_the_process_asks_for(
    tmp_path: Path, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        _saving.write_whole(tmp_path / "package.pt2", b"")
    finally:
        os.umask(before)

    assert (tmp_path / "package.pt2").stat().st_mode & 0o777 == mode


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        _saving.write_whole(tmp_path / "none" / "package.pt2", b"")

    assert error.value.filename == str(tmp_path / "none")
