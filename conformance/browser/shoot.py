"""Take the picture docs/board.png of docs/board.html.

python -m conformance.browser.shoot [FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DOCS = Path(__file__).parents[2] / "docs"
BOARD = DOCS / "board.html"
PICTURE = DOCS / "board.png"
# What a reader looks for first: the clauses that somebody breaks.
_SHOWN = "#outcome=xfail&chapter=APP"


def shoot(browser: Browser, board: Path, picture: Path) -> None:
    """Take a picture of the clauses of `board`, as a desktop shows them."""
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    try:
        page.goto(board.as_uri() + _SHOWN)
        page.locator("#clauses-title").scroll_into_view_if_needed()
        page.evaluate("document.querySelector('#clauses').scrollIntoView()")
        page.screenshot(path=str(picture))
    finally:
        page.close()


def main(arguments: list[str]) -> int:
    """Take it, and say where it is; 1 where there is no Chromium."""
    picture = Path(arguments[0]) if arguments else PICTURE
    try:
        with chromium.started() as browser:
            shoot(browser, BOARD, picture)
    except chromium.NoChromium as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{picture}: {picture.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
