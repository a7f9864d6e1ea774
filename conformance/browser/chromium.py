"""The Chromium of this machine."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class NoChromium(Exception):
    """There is none; the message says how to get one."""

    def __str__(self) -> str:
        return (
            "no Chromium in PATH: on Debian `apt-get install chromium`, elsewhere any "
            f"of {', '.join(_NAMES)}"
        )


@contextmanager
def started() -> Iterator[Browser]:
    """Start it without a window, and stop it.

    Raises:
        NoChromium: There is none.
    """
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        raise NoChromium
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            browser.close()
