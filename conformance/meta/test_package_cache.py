"""What is kept of compiled models between tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from conformance.adapter import Call, Info, Range
from conformance.cache import PackageCache

if TYPE_CHECKING:
    from pathlib import Path


class Base:
    """An adapter that counts what it compiles."""

    info = Info("small", "1.0", "", "", cacheable=True)
    capabilities: frozenset[str] = frozenset()
    compiles = 0

    def export(self, *_: Any, **__: Any) -> str:
        return "exported"

    def compile(self, exported: str, **_: Any) -> str:
        self.compiles += 1
        return f"{exported}, compiled"

    def write(self, compiled: str, folder: Path) -> None:
        (folder / "model").write_text(compiled)

    def read(self, folder: Path) -> str:
        return (folder / "model").read_text()


class Packages(Base):
    save, load = Base.write, Base.read


class Freezes(Base):
    freeze, thaw = Base.write, Base.read


@pytest.mark.parametrize("kind", [Packages, Freezes])
def test_a_model_is_compiled_once(
    kind: type[Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # the cache sets Inductor's
    adapter: Any = kind()
    cache = PackageCache(tmp_path, adapter)
    call = Call((torch.zeros(1, 2),))

    found = [cache.compiled(nn.Linear(2, 2), call) for _ in range(2)]

    assert found == ["exported, compiled"] * 2
    assert adapter.compiles == 1


@pytest.mark.parametrize("name", ["acme/layer 2", "/absolute", "..", "Größe-1.0+odd"])
def test_a_name_of_any_form_stays_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    adapter: Any = Freezes()
    adapter.info = Info(name, "2026-x", "", "", cacheable=True)
    root = tmp_path / "cache"

    found = PackageCache(root, adapter).compiled(nn.Linear(2, 2), Call())

    assert found == "exported, compiled"
    assert len([path for path in (root / "packages").iterdir() if path.is_dir()]) == 1
    assert list(tmp_path.iterdir()) == [root]


def test_a_layer_in_the_adapters_own_file_compiles_anew_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    file = tmp_path / "my_adapter.py"
    adapter: Any = Freezes()
    adapter.__name__, adapter.__file__ = "my_adapter", str(file)
    call = Call((torch.zeros(1, 2),))

    for text in ("one", "one", "another"):
        file.write_text(text)
        PackageCache(tmp_path, adapter).compiled(nn.Linear(2, 2), call)

    assert adapter.compiles == 2


@pytest.mark.parametrize("declared", [[], ["dynamic"]], ids=["undeclared", "declared"])
def test_ranges_are_given_to_who_declares_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, declared: list[str]
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    given: list[Any] = []
    adapter: Any = Freezes()
    adapter.capabilities = frozenset(declared)
    adapter.export = lambda _module, _call, *, dynamic: given.append(dynamic)
    ranges = {"x": {0: Range("rows", 2, 8)}}

    call = Call((torch.zeros(4, 2),))
    PackageCache(tmp_path, adapter).compiled(nn.Linear(2, 2), call, dynamic=ranges)

    assert given == [ranges if declared else None]


@pytest.mark.parametrize("file", ["__init__.py", "part.py", "_native.so"])
def test_a_layer_compiles_anew_when_its_code_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.syspath_prepend(tmp_path / "site")
    package = tmp_path / "site" / f"layer_{file.partition('.')[0]}"
    package.mkdir(parents=True)  # without an __init__.py it is a namespace
    adapter: Any = Freezes()
    adapter.info = Info("small", "1", "", "", packages=(package.name,), cacheable=True)

    for text in ("one", "one", "another"):
        (package / file).write_text(text)
        PackageCache(tmp_path / "cache", adapter).compiled(nn.Linear(2, 2), Call())

    assert adapter.compiles == 2
