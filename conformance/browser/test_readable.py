"""Phones, darkness, two thousand rows, and people who do not see colours."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe

from conformance.browser import samples, shoot
from conformance.html_board import MARKS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    Open = Callable[..., Page]

PHONE = {"width": 360, "height": 740}
_KEYSTROKE_MS = 200
_PICTURE_BYTES = 300_000

_TIMED = """async (text) => {
  const field = document.querySelector("#text");
  const begun = performance.now();
  field.value = text;
  field.dispatchEvent(new InputEvent("input", {bubbles: true}));
  await new Promise((done) => requestAnimationFrame(() => {
    const channel = new MessageChannel(); // its message comes after the paint
    channel.port1.onmessage = done;
    channel.port2.postMessage(0);
  }));
  return performance.now() - begun;
}"""


def overflow(page: Page) -> int:
    """By how many pixels the page, or a clause that would cut it off, is too wide."""
    found: int = page.evaluate(
        """() => Math.max(
          document.documentElement.scrollWidth - innerWidth,
          ...[...document.querySelectorAll("details, pre")]
            .map((e) => e.scrollWidth - e.clientWidth))"""
    )
    return found


def lay_out_all(page: Page) -> None:
    """Lay out what is out of sight, too: browsers would leave it for later."""
    page.evaluate(
        """() => document.styleSheets[0].insertRule(
          ".clause { content-visibility: visible !important }",
          document.styleSheets[0].cssRules.length)"""
    )


def open_all(page: Page) -> None:
    page.eval_on_selector_all("details", "all => all.forEach(e => { e.open = true })")
    last = page.locator("details.clause").last
    last.locator(".tests section").first.wait_for(state="attached")
    lay_out_all(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 800}])
def test_axe_finds_nothing(visit: Open, scheme: str, viewport: dict[str, int]) -> None:
    page = visit("#AXX-01", color_scheme=scheme, viewport=viewport)
    page.eval_on_selector_all(
        "details.more", "all => all.forEach(e => { e.open = true })"
    )

    lay_out_all(page)

    found = Axe().run(page)

    assert found.violations_count == 0, found.generate_report()


def test_darkness_is_dark_and_light_is_light(visit: Open) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"

    dark = visit(color_scheme="dark").evaluate(colour)
    light = visit(color_scheme="light").evaluate(colour)

    assert (dark, light) == ("rgb(20, 23, 27)", "rgb(255, 255, 255)")


@pytest.mark.parametrize("path", [None, shoot.BOARD])
def test_a_phone_scrolls_in_one_direction_only(
    visit: Open, board: Path, path: Path | None
) -> None:
    page = visit(path=path or board, viewport=PHONE, has_touch=True)
    assert overflow(page) == 0

    open_all(page)

    assert overflow(page) == 0


def test_a_phone_names_the_implementation_of_each_outcome(visit: Open) -> None:
    page = visit(viewport=PHONE)

    page.locator("#AXX-01").scroll_into_view_if_needed()

    width = page.locator("#AXX-01 .who").first.bounding_box()["width"]

    assert width > 20
    assert not page.locator(".heads").is_visible()
    assert "second 1.0: ↯ crash" in page.locator("#AXX-01 summary").first.inner_text()


def test_no_outcome_is_told_by_its_colour_alone(visit: Open) -> None:
    page = visit()

    cells = page.eval_on_selector_all(".cell", "all => all.map(e => e.textContent)")

    assert len(cells) == 60
    told = [cell.partition(": ")[2].split(maxsplit=1) for cell in cells]
    assert {MARKS[outcome] == mark for mark, outcome in told} == {True}
    assert len(set(MARKS.values())) == len(MARKS)


def test_two_thousand_rows_stay_fluid(visit: Open, tmp_path: Path) -> None:
    path = tmp_path / "large.html"
    path.write_text(samples.board(20, 100), encoding="utf-8")
    page = visit(path=path)
    texts = "c", "cl", "claim", "claim 7", "claim 77", "claim 7", "told", "", "x", ""

    times = [page.evaluate(_TIMED, text) for text in texts]

    assert page.locator("#count").text_content() == "2,000 clauses"
    assert statistics.median(times) < _KEYSTROKE_MS, times
    assert max(times) < 3 * _KEYSTROKE_MS, times


def test_the_board_of_the_docs_opens(visit: Open) -> None:
    page = visit("#CAP-01", path=shoot.BOARD)

    assert (
        page.locator("#CAP-01 .tests section").count()
        == page.locator("[name=impl]").count()
    )
    assert page.locator("#fuzz h3").count() > 0
    assert page.locator("#measured svg").count() > 0


def test_the_picture_of_the_docs_is_small(browser: Browser, tmp_path: Path) -> None:
    made = tmp_path / "board.png"

    shoot.shoot(browser, shoot.BOARD, made)

    for path in (made, shoot.PICTURE):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < _PICTURE_BYTES
