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
