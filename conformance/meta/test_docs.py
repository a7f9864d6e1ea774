"""The generated parts of the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.meta import docs

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_generated_parts_are_up_to_date() -> None:
    assert docs.main(["--check"]) == 0


def test_stale_parts_are_named_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("old")
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(docs, "pages", lambda: {page: "new"})

    assert docs.main(["--check"]) == 1
    assert page.read_text() == "old"
    assert "page.md is not up to date" in capsys.readouterr().err

    assert docs.main([]) == 1
    assert page.read_text() == "new"
    assert "page.md is written anew" in capsys.readouterr().err
    assert docs.main([]) == 0
