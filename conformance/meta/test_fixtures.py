"""The tiny checkpoints are built whole, small, once, and to the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import fixtures
from fixtures import _checkpoint
from fixtures.build import build, main

if TYPE_CHECKING:
    from collections.abc import Callable

FAMILIES = ("flux", "ltx", "qwenimage", "sd3", "sdxl", "wan")
PARENT = Path(fixtures.__file__).parents[1]
LIMIT_MB = 30


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return content


def python(*arguments: str) -> subprocess.Popen[str]:
    # The same libraries as here, wherever they come from.
    path = os.pathsep.join([str(PARENT), *sys.path])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_families_are_the_six() -> None:
    assert fixtures.families() == FAMILIES


def test_import_loads_no_framework() -> None:
    heavy = "{'torch', 'diffusers', 'transformers', 'tokenizers'}"
    program = f"import sys, fixtures.build; sys.exit(str({heavy} & set(sys.modules)))"

    _, errors = python("-c", program).communicate(timeout=60)

    assert errors.strip() == "set()"


@pytest.mark.parametrize("verb", [fixtures.recipe, fixtures.cached])
def test_unknown_family_is_told_the_known_ones(verb: Callable[[str], object]) -> None:
    with pytest.raises(fixtures.UnknownFamily) as caught:
        verb("fluks")

    sentence = str(caught.value)
    assert "\n" not in sentence
    assert all(name in sentence for name in ("'fluks'", *FAMILIES))


def test_command_line_refuses_an_unknown_family(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["fluks"])

    assert status != 0
    assert "'fluks'" in capsys.readouterr().err


def test_two_processes_write_the_same_bytes(root: Path, tmp_path: Path) -> None:
    lines, errors = python(
        "-m", "fixtures.build", "--out", str(tmp_path), *FAMILIES
    ).communicate(timeout=120)

    assert len(lines.splitlines()) == len(FAMILIES), errors
    assert [manifest(tmp_path / family) for family in FAMILIES] == [
        manifest(fixtures.cached(family, root)) for family in FAMILIES
    ]


def test_all_families_together_stay_small(root: Path) -> None:
    sizes = [
        path.stat().st_size
        for family in FAMILIES
        for path in fixtures.cached(family, root).rglob("*")
        if path.is_file()
    ]

    assert sum(sizes) < LIMIT_MB * 1e6


def test_cache_builds_once(tmp_path: Path) -> None:
    folder = fixtures.cached("wan", tmp_path)
    inode = folder.stat().st_ino

    assert fixtures.cached("wan", tmp_path) == folder
    assert folder.stat().st_ino == inode


def test_cache_lies_in_xdg_cache_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    folder = fixtures.cached("wan")

    assert folder.parent == tmp_path / "aoti-conformance" / "checkpoints"


def test_cache_keeps_versions_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fixtures.cached("wan", tmp_path)
    monkeypatch.setattr(_checkpoint, "versions", lambda: {"torch": "9.9"})

    assert fixtures.cached("wan", tmp_path) != folder


def test_cache_serves_two_processes_at_once(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, fixtures;"
        "print(fixtures.cached('wan', pathlib.Path(sys.argv[1])))"
    )
    both = [python("-c", program, str(tmp_path)) for _ in range(2)]

    answers = [process.communicate(timeout=120)[0].strip() for process in both]

    assert answers[0] == answers[1]
    fixtures.verify(Path(answers[0]))


def flip_a_byte(folder: Path) -> str:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return "transformer/diffusion_pytorch_model.safetensors"


def drop_a_file(folder: Path) -> str:
    (folder / "vae" / "config.json").unlink()
    return "vae/config.json"


def add_a_file(folder: Path) -> str:
    (folder / "transformer" / "model.bin").write_bytes(b"")
    return "transformer/model.bin"


def cut_the_manifest(folder: Path) -> str:
    (folder / "manifest.json").write_text("{")
    return "manifest.json"


def drop_the_manifest(folder: Path) -> str:
    (folder / "manifest.json").unlink()
    return "manifest.json"


@pytest.mark.parametrize(
    "damage",
    [flip_a_byte, drop_a_file, add_a_file, cut_the_manifest, drop_the_manifest],
)
def test_damage_is_named_and_repaired(
    tmp_path: Path, damage: Callable[[Path], str]
) -> None:
    folder = fixtures.cached("wan", tmp_path)
    whole = manifest(folder)
    name = damage(folder)

    with pytest.raises(fixtures.BrokenCheckpoint) as caught:
        fixtures.verify(folder)
    (fault,) = caught.value.faults
    assert fault.file == name
    assert fault.expected != fault.found
    assert all(fact in str(caught.value) for fact in (str(folder), *fault))

    assert fixtures.cached("wan", tmp_path) == folder
    fixtures.verify(folder)
    assert manifest(folder) == whole


def test_failed_build_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError("disk full")

    monkeypatch.setattr(_checkpoint, "write_manifest", fail)

    with pytest.raises(OSError, match="disk full"):
        build("wan", tmp_path / "wan")

    assert list(tmp_path.iterdir()) == []


def test_build_leaves_a_folder_in_the_way_alone(tmp_path: Path) -> None:
    (tmp_path / "wan").mkdir()
    (tmp_path / "wan" / "mine.txt").write_text("mine")

    with pytest.raises(FileExistsError):
        build("wan", tmp_path / "wan")

    assert [path.name for path in tmp_path.rglob("*")] == ["wan", "mine.txt"]
