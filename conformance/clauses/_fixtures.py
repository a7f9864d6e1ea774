"""Fixtures that several chapters share: a package, a folder, a Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.clauses import _hubs, _unpacking
from conformance.loopback import Hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conformance.adapter import Packages
    from conformance.cache import PackageCache


@pytest.fixture
def package(impl: Packages, cache: PackageCache, tmp_path: Path, seed: int) -> Path:
    """Save a compiled Stack."""
    return _unpacking.saved(impl, cache, tmp_path, seed)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Make an empty folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Serve an empty Hub, and have the client talk to it."""
    with Hub() as served:
        _hubs.connect(served.url, tmp_path)
        yield served
