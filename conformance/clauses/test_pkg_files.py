"""Chapter PKG: what saving leaves, and what a saved package is good for."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance import archives, isolated, pipelines
from conformance.adapter import module_of
from conformance.clauses import _compiles, _unpacking
from conformance.clauses._packages import archive, assert_right, tried
from conformance.fresh import fresh_python
from conformance.models import blocks
from conformance.spec import clause
from conformance.workbench import attempt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conformance.adapter import Packages
    from conformance.cache import PackageCache

_MOST_BYTES = 1_000_000  # for each of the two kinds of blocks
_ROOM_BYTES = 4096
# torch draws names of files anew, and digests of them follow.
_DIGEST = re.compile(r"[0-9a-z]{32,}")


def _save(impl: Packages, cache: PackageCache, folder: Path) -> None:
    """Save a Stack that the cache has."""
    impl.save(cache.compiled(blocks.seeded(blocks.Stack), blocks.call()), folder)


@clause("PKG-14")
def test_torchs_own_loader_opens_a_package(
    package: Path, temporary: Path, seed: int
) -> None:
    def load() -> tuple[set[str], Any]:
        module: Any = blocks.seeded(blocks.Stack, seed)
        model = torch._inductor.aoti_load_package(str(archive(package)))
        weights = dict(module.state_dict())
        model.load_constants(weights, check_full_update=True, user_managed=True)
        names = set(model.get_constant_fqns())
        with torch.no_grad():
            return names ^ weights.keys(), model(**blocks.call().kwargs)[0].tolist()

    different, answer = _unpacking.in_child(load, temporary)

    assert different == set()
    _unpacking.assert_right(answer, seed)


@clause("PKG-15")
def test_a_save_without_room_leaves_nothing(
    impl: Packages, cache: PackageCache, package: Path, tmp_path: Path
) -> None:
    assert package.is_dir()  # so that it is compiled, and there is room to load it
    target = tmp_path / "target"
    target.mkdir()

    def save() -> list[str]:
        compiled = cache.compiled(blocks.seeded(blocks.Stack), blocks.call())
        with _unpacking.no_room(_ROOM_BYTES):
            assert attempt(lambda: impl.save(compiled, target)).error is not None
        return [str(path) for path in target.rglob("*") if path.is_file()]

    assert _unpacking.in_child(save, tmp_path) == []


@clause("PKG-16")
def test_a_save_that_is_killed_leaves_the_package_before(
    impl: Packages, cache: PackageCache, package: Path, temporary: Path, seed: int
) -> None:
    size = archive(package).stat().st_size

    def save() -> None:
        compiled = cache.compiled(blocks.seeded(blocks.Stack), blocks.call())
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which ends the process
        with _unpacking.no_room(size // 2):
            impl.save(compiled, package)

    pid = os.fork()
    if pid == 0:
        attempt(save)
        os._exit(0)
    os.waitpid(pid, 0)

    assert_right(tried(impl, [package], temporary, seed), seed)


@clause("PKG-21", deadline_s=600)
def test_the_blocks_of_a_tiny_flux_are_small(
    impl: Any, cache: PackageCache, tmp_path: Path
) -> None:
    case = pipelines.load("flux")
    call, run = case.first_call(), case.run
    names: Any = case.module._repeated_blocks
    kinds = {type(part).__name__ for part in case.module.modules()} & set(names)
    chosen, other = sorted(kinds)

    def size_bytes(name: str, **choice: Any) -> int:
        folder = tmp_path / name
        folder.mkdir()
        impl.save(cache.regions(case.module, call, run=run, **choice), folder)
        return _compiles.size_bytes(folder)

    alone = size_bytes("alone", blocks=[chosen])
    both = size_bytes("both")

    sizes = {chosen: alone, other: both - alone}
    assert {name: size for name, size in sizes.items() if size >= _MOST_BYTES} == {}


@clause("PKG-22")
def test_saving_twice_gives_the_same_bytes(
    impl: Packages, cache: PackageCache, package: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    again.mkdir()

    ending = isolated.run_forked(
        lambda: _save(impl, cache, again), deadline_s=_unpacking.COMPILE_S
    )

    assert ending.kind == "answer", ending.text
    assert _compiles.files_of(again) == _compiles.files_of(package)


@clause("PKG-22")
@pytest.mark.usefixtures("cache")  # for its headers: nothing is taken from it
def test_compiling_twice_gives_the_same_contents(
    impl: Packages, tmp_path: Path
) -> None:
    # One after the other: torch writes into sources that processes share.
    first, second = (
        _without_digests(_unpacking.compiled_anew(impl, tmp_path / name))
        for name in ("first", "second")
    )

    assert first.keys() == second.keys()
    assert {
        name: sorted((first[name] - second[name]) + (second[name] - first[name]))
        for name in first
        if first[name] != second[name]
    } == {}


def _without_digests(folder: Path) -> dict[str, Counter[str]]:
    """Count the facts of files and members, less digests and the order of facts."""
    packed = {str(path.relative_to(folder)) for path in archives.find(folder)}
    found: dict[str, Counter[str]] = {}
    for name, data in _compiles.files_of(folder).items():
        if name not in packed:
            found.setdefault(_DIGEST.sub("#", name), Counter()).update(_facts(data))
    return found


def _facts(data: bytes) -> Iterator[str]:
    """List what JSON says, each fact with its place; another file is one fact."""
    try:
        told = json.loads(data)
    except ValueError:
        plain = _DIGEST.sub("#", data.decode("latin-1"))
        yield hashlib.sha256(plain.encode()).hexdigest()
        return
    yield from _leaves("", told)


def _leaves(place: str, told: Any) -> Iterator[str]:
    if isinstance(told, dict):
        for name, value in told.items():
            yield from _leaves(f"{place}/{_DIGEST.sub('#', name)}", value)
    elif isinstance(told, list):
        for value in told:
            yield from _leaves(f"{place}/", value)
    else:
        yield f"{place}={_DIGEST.sub('#', str(told))}"


@clause("PKG-23")
def test_a_package_runs_with_nothing_but_torch(
    impl: Any, package: Path, tmp_path: Path, adapter_name: str, seed: int
) -> None:
    task = "conformance.clauses._fence:alone"
    modules = [module_of(adapter_name), getattr(impl, "__module__", "conformance")]
    own = [*(name.partition(".")[0] for name in modules), *impl.info.packages]
    empty = tmp_path / "empty"
    empty.mkdir()
    bare = {
        "PATH": str(empty),
        "CXX": str(empty / "none"),
        "CC": str(empty / "none"),
        "TORCHINDUCTOR_CACHE_DIR": str(empty / "inductor"),
    }

    found = fresh_python(task, adapter_name, str(package), seed, own, env=bare).value

    _unpacking.assert_right(found, seed)
