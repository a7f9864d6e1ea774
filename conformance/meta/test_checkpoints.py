"""Where the checkpoints of pipelines are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

import fixtures
from conformance import pipelines

AT_HOME = Path("/home/nobody/checkpoints/flux")


@pytest.fixture
def without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def cached(name: str, root: Path | None = None) -> Path:
        if root is None:
            raise PermissionError(AT_HOME)
        return root / name

    monkeypatch.setattr(fixtures, "cached", cached)


def test_they_are_kept_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixtures, "cached", lambda _name: AT_HOME)

    assert pipelines._kept("flux") == AT_HOME


@pytest.mark.usefixtures("without_a_home")
def test_without_a_home_they_are_beside_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOTI_CACHE", str(tmp_path))

    assert pipelines._kept("flux") == tmp_path / "checkpoints" / "flux"


@pytest.mark.usefixtures("without_a_home")
def test_without_either_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AOTI_CACHE", raising=False)

    with pytest.raises(PermissionError, match="nobody"):
        pipelines._kept("flux")
