"""Collect the clauses, and the rest of this package only where it is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what is not in `clauses`, unless the command line names it."""
    if collection_path == HERE or not collection_path.is_relative_to(HERE):
        return None
    part = HERE / collection_path.relative_to(HERE).parts[0]
    if part == HERE / "clauses":
        return None
    session = config.pluginmanager.get_plugin("session")
    asked = session is not None and (
        session.isinitpath(collection_path, with_parents=True)
        or any(
            session.isinitpath(path)
            for path in collection_path.parents
            if path != HERE and path.is_relative_to(HERE)
        )
    )
    return None if asked else True
