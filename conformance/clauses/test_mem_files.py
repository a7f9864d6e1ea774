"""Chapter MEM: the files that loading needs, and what becomes of them."""

from __future__ import annotations

import gc
import os
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance import gauges
from conformance.clauses import _unpacking
from conformance.clauses._applied import unless_refused
from conformance.clauses._unpacking import (
    answer,
    applied,
    assert_right,
    called,
    in_child,
    killed,
    moved_to,
    outcome,
)
from conformance.fresh import fresh_python
from conformance.models import blocks
from conformance.spec import clause

if TYPE_CHECKING:
    from torch import nn

    from conformance.adapter import Packages


def answers(impl: Packages, compiled: Any, module: nn.Module) -> list[Any]:
    """Apply and call; none where a compiled model that serves another is refused."""
    made = unless_refused(lambda: impl.apply(compiled, module))
    return [called(module) for _ in made]


@clause("MEM-16")
def test_a_package_is_unpacked_once(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    def load() -> tuple[Any, int, int]:
        before = gauges.libraries()
        compiled = impl.load(package)
        found = []
        for _ in range(3):
            found += answers(impl, compiled, blocks.seeded(blocks.Stack, seed))
        found.append(answer(impl, package, seed))
        entries = len(os.listdir(temporary))  # noqa: PTH208
        return found, len(gauges.libraries() - before), entries

    found, mapped, entries = in_child(load, temporary)

    assert mapped <= 1, f"{mapped} libraries are mapped"
    assert entries <= 1, f"{entries} entries are in the folder for temporary files"
    for each in found:
        assert_right(each, seed)


@clause("MEM-17")
def test_unpacked_files_are_private(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    def load() -> list[str]:
        os.umask(0)
        module = applied(impl, package, seed)
        called(module)
        found = [(path, path.lstat()) for path in temporary.iterdir()]
        return [
            f"{path.name}: {stat.filemode(about.st_mode)}"
            for path, about in found
            if about.st_mode & 0o077 or about.st_uid != os.geteuid()
        ]

    assert in_child(load, temporary) == []


@clause("MEM-18")
def test_a_process_that_ends_leaves_no_file(
    package: Path, temporary: Path, adapter_name: str, seed: int
) -> None:
    task = "conformance.clauses._unpacking:ends"

    left = fresh_python(task, adapter_name, str(package), str(temporary), seed).value

    assert left == {"end": [], "exit": [], "exception": []}


@clause("MEM-19")
def test_a_failed_load_leaves_no_file(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    def load() -> tuple[Any, list[str], Any]:
        module = blocks.seeded(blocks.Stack, seed)
        with _unpacking.no_room():
            first = outcome(lambda: answer(impl, package, seed))
        left = [] if first["words"] is None else os.listdir(temporary)  # noqa: PTH208
        impl.apply(impl.load(package), module)
        return first, left, called(module)

    first, left, second = in_child(load, temporary)

    assert left == []
    assert_right(second, seed)
    _unpacking.assert_right_or_named(first, seed, "")


@clause("MEM-19")
def test_room_that_is_made_is_found(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    def load() -> Any:
        compiled, module = impl.load(package), blocks.seeded(blocks.Stack, seed)
        with _unpacking.no_room():
            for _ in unless_refused(lambda: impl.apply(compiled, module)):
                outcome(lambda: called(module))
        unless_refused(lambda: impl.apply(compiled, module))
        return called(module)

    assert_right(in_child(load, temporary), seed)


@clause("MEM-20")
def test_what_the_killed_leave_is_swept(
    impl: Packages, package: Path, temporary: Path, adapter_name: str, seed: int
) -> None:
    def load() -> None:
        _unpacking.move_to(temporary)
        answer(impl, package, seed)

    for after_s in (None, 0.001, 0.003, 0.006, 0.01, 0.02, 0.05, 0.5):
        killed(load, after_s=after_s)

    fresh_python(
        "conformance.clauses._unpacking:fresh_answer",
        adapter_name,
        str(package),
        seed,
        env={"TMPDIR": str(temporary)},
    )
    assert os.listdir(temporary) == []  # noqa: PTH208


@clause("MEM-21")
def test_the_files_of_the_living_stay(
    impl: Packages, package: Path, tmp_path: Path, adapter_name: str, seed: int
) -> None:
    with moved_to(tmp_path / "shared") as shared:
        (shared / "aoti-notes").mkdir()
        (shared / "aoti-notes" / "file").write_text("of somebody else")
        module = applied(impl, package, seed)
        assert_right(called(module), seed)
        before = set(gauges.entries(shared))

        killed(lambda: answer(impl, package, seed), after_s=0.3)
        task = "conformance.clauses._unpacking:fresh_answer"
        env = {"TMPDIR": str(shared)}
        fresh_python(task, adapter_name, str(package), seed, env=env)

        assert before - set(gauges.entries(shared)) == set()
        assert_right(called(module), seed)
        assert_right(answer(impl, package, seed), seed)


@clause("MEM-22")
def test_a_child_leaves_its_parents_files(
    impl: Packages, package: Path, tmp_path: Path, seed: int
) -> None:
    with moved_to(tmp_path / "shared") as shared:
        held = [impl.load(package), blocks.seeded(blocks.Stack, seed)]
        impl.apply(*held)
        called(held[1])
        before = set(gauges.entries(shared))

        def let_go() -> None:
            held.clear()
            gc.collect()

        in_child(let_go, shared)

        assert before - set(gauges.entries(shared)) == set()
        assert_right(called(held[1]), seed)
        for found in answers(impl, held[0], blocks.seeded(blocks.Stack, seed)):
            assert_right(found, seed)


@clause("MEM-23")
@pytest.mark.parametrize("name", ["with spaces", "Grüße-一時"])
def test_any_letters_in_the_folder_will_do(
    impl: Packages, package: Path, tmp_path: Path, seed: int, name: str
) -> None:
    (tmp_path / name).mkdir()

    found = in_child(lambda: answer(impl, package, seed), tmp_path / name)

    assert_right(found, seed)


@clause("MEM-23")
def test_a_relative_folder_will_do(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    def load() -> list[Any]:
        models = [impl.load(package) for _ in range(2)]  # one may serve one module
        modules = [blocks.seeded(blocks.Stack, seed) for _ in models]
        found = []
        for compiled, module in zip(models, modules, strict=True):
            impl.apply(compiled, module)
            found.append(called(module))
            os.chdir("/")
        return [*found, called(modules[0])]

    found = in_child(load, temporary.name, temporary.parent)

    for each in found:
        assert_right(each, seed)


@clause("MEM-24")
def test_a_relative_package_survives_another_directory(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    def load() -> Any:
        compiled = impl.load(Path(package.name))
        os.chdir("/")
        module = blocks.seeded(blocks.Stack, seed)
        impl.apply(compiled, module)
        return called(module)

    assert_right(in_child(load, temporary, package.parent), seed)


@clause("MEM-25")
def test_loading_needs_no_home(package: Path, adapter_name: str, seed: int) -> None:
    task = "conformance.clauses._unpacking:fresh_answer"
    env = {"HOME": os.devnull, "XDG_CACHE_HOME": f"{os.devnull}/cache"}

    found = fresh_python(task, adapter_name, str(package), seed, env=env).value

    assert_right(found, seed)


@clause("MEM-26")
@pytest.mark.parametrize("what", ["missing", "file"])
def test_a_folder_that_is_none_is_named(
    impl: Packages, package: Path, tmp_path: Path, seed: int, what: str
) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / what

    found = in_child(lambda: outcome(partial(answer, impl, package, seed)), place)

    _unpacking.assert_right_or_named(found, seed, str(place))


@clause("MEM-26")
def test_a_full_folder_is_named(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    def load() -> Any:
        with _unpacking.no_room():
            return outcome(lambda: answer(impl, package, seed))

    found = in_child(load, temporary)

    _unpacking.assert_right_or_named(found, seed, str(temporary))


@clause("MEM-26")
def test_a_folder_that_runs_no_code_is_named(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    _unpacking.mount_noexec(temporary)

    found = in_child(lambda: outcome(partial(answer, impl, package, seed)), temporary)

    _unpacking.assert_right_or_named(found, seed, str(temporary))
