"""CMP: what a saved package holds, and where it runs."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from conformance import device
from conformance.clauses import _compiles
from conformance.clauses._applied import unless_refused
from conformance.fresh import fresh_python
from conformance.models.blocks import seeded
from conformance.models.compiling import (
    STORAGE_ELEMENTS,
    Changing,
    Layer,
    Sliced,
    Small,
    rows,
)
from conformance.parity import assert_parity, truth
from conformance.spec import clause
from conformance.workbench import Pair, applied_copy, assert_agrees

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter import Packages
    from conformance.cache import PackageCache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for a package."""
    made = tmp_path / "package"
    made.mkdir()
    return made


@clause("CMP-02")
@pytest.mark.usefixtures("cache")  # it keeps the compiler's headers
def test_an_option_that_asks_for_weights_in_the_package_is_refused_or_heeded(
    impl: Packages, folder: Path
) -> None:
    module = seeded(Layer)
    options = {"aot_inductor.package_constants_in_so": True}

    def holds_them(compiled: object) -> None:
        impl.save(compiled, folder)
        names = {name for name, _ in module.named_parameters()}
        assert set(_compiles.weights_in(folder, module)) == names

    _compiles.refused_or(
        lambda: impl.compile(impl.export(module, rows()), options=options), holds_them
    )


@clause("CMP-12")
@pytest.mark.parametrize("emptied", [True, False], ids=["emptied", "over"])
def test_a_package_saved_where_another_was_is_the_new_one(
    impl: Packages, cache: PackageCache, folder: Path, *, emptied: bool
) -> None:
    for times in (1, 3):
        module = seeded(partial(Changing, times))
        if emptied:
            shutil.rmtree(folder)
            folder.mkdir()

        compiled = cache.compiled(module, rows())

        for _ in unless_refused(partial(impl.save, compiled, folder)):
            twin = applied_copy(impl, impl.load(folder), module)
            assert_agrees(Pair(module, twin), rows())


@clause("CMP-13")
def test_a_saved_package_runs_where_nothing_else_is_left(
    impl: Packages,
    adapter_name: str,
    folder: Path,
    tmp_path: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {name: tmp_path / name for name in ("inductor", "temporary", "elsewhere")}
    for made in there.values():
        made.mkdir()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiling"))
    # Precompiled headers pay from the second compile on, and there is none here.
    options = {"aot_inductor.precompile_headers": False}
    impl.save(impl.compile(impl.export(seeded(Layer), rows()), options=options), folder)
    shutil.rmtree(tmp_path / "compiling")
    moved = folder.rename(there["elsewhere"] / "moved")

    completed = fresh_python(
        "conformance.clauses._compiles:run_saved",
        adapter_name,
        str(moved),
        seed,
        env={
            "TORCHINDUCTOR_CACHE_DIR": str(there["inductor"]),
            "TMPDIR": str(there["temporary"]),
        },
        cwd=there["elsewhere"],
    )

    module, call = seeded(Layer, seed), rows(seed=seed)
    actual = torch.tensor(completed.value, device=device.chosen())
    assert_parity(actual, module(*call.args), truth(module, call))


@clause("CMP-15")
def test_libraries_in_a_package_ask_for_no_executable_stack(
    impl: Packages, cache: PackageCache, folder: Path
) -> None:
    impl.save(cache.compiled(seeded(Small), rows()), folder)

    libraries = _compiles.libraries(folder)

    assert libraries, "the package holds no shared library"
    wanting = [
        n for n, lib in libraries.items() if _compiles.wants_executable_stack(lib)
    ]
    assert wanting == []


@clause("CMP-16")
def test_a_package_holds_no_weights(
    impl: Packages, cache: PackageCache, folder: Path
) -> None:
    module = seeded(Small)

    impl.save(cache.compiled(seeded(Small), rows()), folder)

    assert _compiles.weights_in(folder, module) == []


@clause("CMP-22")
def test_a_package_does_not_grow_with_the_storage_of_its_constants(
    impl: Packages, cache: PackageCache, folder: Path
) -> None:
    storage_bytes = 4 * STORAGE_ELEMENTS

    impl.save(cache.compiled(seeded(Sliced), rows()), folder)

    assert _compiles.size_bytes(folder) < storage_bytes // 2
