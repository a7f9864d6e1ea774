"""A browser, pages in it, and what they said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from conformance.browser import chromium, samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    Open = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        with chromium.started() as started:
            yield started
    except chromium.NoChromium as error:
        pytest.exit(str(error), returncode=1)


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small page: 30 clauses, two implementations, a fuzz, a measurement."""
    path = tmp_path_factory.mktemp("board") / "board.html"
    path.write_text(samples.board(), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser: Browser, board: Path) -> Iterator[Open]:
    """Open the page, or another; it must say nothing and ask for no other file."""
    contexts = []
    said: list[str] = []

    def go(
        hash: str = "",  # noqa: A002  # what browsers call it
        *,
        path: Path = board,
        **options: Any,
    ) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url.split("#")[0]))
        page.goto(path.as_uri() + hash)
        assert said.pop(0) == path.as_uri()
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []
