"""Filters, the address, what a clause shows, and the keyboard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    Open = Callable[..., Page]


def shown(page: Page) -> list[str]:
    """The clauses that are there to see."""
    found: list[str] = page.eval_on_selector_all(
        "details.clause", "all => all.filter(e => e.checkVisibility()).map(e => e.id)"
    )
    return found


def box(page: Page, name: str, value: str) -> None:
    page.locator(f"[name={name}][value='{value}']").click()


def address(page: Page, wanted: str) -> None:
    """Wait until the address is that: it follows a little later."""
    page.wait_for_function("wanted => location.hash === wanted", arg=wanted)


def test_everything_is_shown_at_first(visit: Open) -> None:
    page = visit()

    assert len(shown(page)) == 30
    assert page.locator("#count").text_content() == "30 clauses"


def test_a_chapter_hides_the_others(visit: Open) -> None:
    page = visit()

    page.locator("#chapter").select_option("BXX")

    assert shown(page) == [f"BXX-{n:02}" for n in range(10)]
    assert page.locator("#count").text_content() == "10 of 30 clauses"
    assert not page.locator("#chapter-AXX").is_visible()
    address(page, "#chapter=BXX")


def test_outcomes_add_up_over_the_implementations_shown(visit: Open) -> None:
    page = visit()

    box(page, "outcome", "crash")
    of_both = shown(page)
    box(page, "impl", "second 1.0")

    # The outcomes take turns, of the second one clause earlier.
    assert of_both[:4] == ["AXX-01", "AXX-02", "AXX-07", "AXX-08"]
    assert shown(page)[:2] == ["AXX-02", "AXX-08"]
    assert not page.locator("#AXX-02 .run-1").first.is_visible()
    address(page, "#outcome=crash&impl=first+1.0")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("b8 MUST", ["BXX-08"]),
        ("cxx-07", ["CXX-07"]),  # an id, in any case
        ("xx-05 covers c5", ["AXX-05", "BXX-05", "CXX-05"]),  # all words
        ("told axx-02 crash", ["AXX-02"]),  # a message
        ("no such thing", []),
    ],
)
def test_text_is_looked_for_in_clauses_and_messages(
    visit: Open, text: str, found: list[str]
) -> None:
    page = visit()

    page.locator("#text").fill(text)

    assert shown(page) == found


def test_show_all_undoes_every_filter(visit: Open) -> None:
    page = visit("#q=claim&chapter=AXX&outcome=fail&impl=first+1.0")
    assert len(shown(page)) == 2

    page.get_by_role("button", name="Show all").click()
    address(page, "")

    assert len(shown(page)) == 30


def test_an_address_brings_the_filters_back(visit: Open) -> None:
    page = visit()
    page.locator("#text").fill("claim")
    page.locator("#chapter").select_option("CXX")
    box(page, "outcome", "fail")
    box(page, "outcome", "xfail")
    box(page, "impl", "first 1.0")
    wanted = "#q=claim&chapter=CXX&outcome=fail&outcome=xfail&impl=second+1.0"
    address(page, wanted)

    again = visit(wanted)

    assert 0 < len(shown(page)) < 10
    assert shown(again) == shown(page)
    assert again.locator("#text").input_value() == "claim"
    assert not again.locator("[name=impl]").first.is_checked()


@pytest.mark.parametrize(
    "bad", ["#chapter=ZZZ&outcome=none", "#%E0%A4%A&q", "#ZXX-99", "#=", "#nothing"]
)
def test_a_strange_address_shows_everything(visit: Open, bad: str) -> None:
    assert len(shown(visit(bad))) == 30


def test_an_unknown_clause_is_said_to_be_unknown(visit: Open) -> None:
    page = visit("#ZXX-99")

    assert page.locator("#count").text_content() == "There is no ZXX-99 on this board."


def test_a_link_opens_its_clause_in_view(visit: Open) -> None:
    page = visit("#CXX-09")

    clause = page.locator("#CXX-09")
    clause.locator("summary:focus").wait_for()
    assert clause.locator(".rule").is_visible()
    assert page.evaluate(
        "document.querySelector('#CXX-09').getBoundingClientRect().top < innerHeight"
    )
    assert "c9 MUST hold" in (clause.locator(".rule").text_content() or "")
    assert "dynamic" in (clause.locator(".rule dl").text_content() or "")
    # The address may change while the page stays.
    page.evaluate("location.hash = '#AXX-01'")
    page.locator("#AXX-01 .rule").wait_for()


def test_links_lead_somewhere_on_the_page(visit: Open) -> None:
    page = visit()

    links = page.eval_on_selector_all(
        "a", "all => all.map(a => a.getAttribute('href'))"
    )

    ids = set(page.eval_on_selector_all("[id]", "all => all.map(e => '#' + e.id)"))
    assert {"#verdicts", "#clauses", "#fuzz", "#measured", "#AXX-00", "#CXX-09"} <= set(
        links
    )
    assert set(links) <= ids


def test_a_clause_shows_its_tests_messages_and_commands(visit: Open) -> None:
    page = visit("#AXX-01")
    first = page.locator("#AXX-01 .tests .run-0")

    assert "fail: 2 tests" in (first.text_content() or "")
    assert (
        first.locator("pre:not(.command)")
        .first.text_content()
        .startswith("AXX-01 told fail. </script><script>")
    )
    assert first.locator(".command").all_text_contents() == [
        "python -m pytest --pyargs 't::test_AXX-01[whole]' --aoti-seed=0",
        "python -m pytest --pyargs 't::test_AXX-01[it'\"'\"'s [big]]' --aoti-seed=0",
    ]
    second = page.locator("#AXX-00")
    second.locator("summary").first.click()
    passed = second.locator(".run-0 details")
    assert passed.locator("summary").text_content() == "pass: 2 tests"
    passed.locator("summary").click()
    assert passed.locator(".command").first.is_visible()


def test_text_of_others_is_never_obeyed(visit: Open) -> None:
    page = visit("#AXX-01")
    for summary in page.locator("details:not(.clause) > summary").all():
        summary.evaluate("e => { e.parentElement.open = true }")

    assert page.evaluate("window.obeyed === undefined")
    assert page.locator("main img").count() == 0
    assert page.locator("#fuzz pre").first.text_content().startswith("</script>")
    assert page.locator("#AXX-01 .rule b").count() == 0


def test_the_keyboard_does_it_all(visit: Open) -> None:
    page = visit()

    page.keyboard.press("Tab")
    assert page.locator(".skip").evaluate(
        "e => e.matches(':focus') && e.offsetLeft >= 0"
    )
    page.keyboard.press("/")
    page.keyboard.type("b7")
    assert shown(page) == ["BXX-07"]
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Backspace")
    page.locator("#AXX-00 > summary").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.id") == "AXX-01"
    assert page.locator("#AXX-01 .rule").is_visible()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.parentElement.id") == "AXX-00"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.parentElement.id") == "AXX-01"


def test_arrows_pass_over_what_is_hidden(visit: Open) -> None:
    page = visit("#outcome=crash&impl=first+1.0")

    page.locator("#AXX-08 > summary").focus()
    page.keyboard.press("ArrowDown")

    assert page.evaluate("document.activeElement.parentElement.id") == "BXX-04"


def test_without_scripts_outcomes_and_rules_are_there(visit: Open) -> None:
    page = visit(java_script_enabled=False)

    assert page.locator("details.clause").count() == 30
    text = page.locator("#AXX-01").inner_text()
    assert re.search(r"AXX-01\s+Claim 1 of A", text)
    assert page.locator("noscript").inner_text().startswith("Filters")
    page.locator("#AXX-01 > summary").click()
    assert "a1 MUST hold" in page.locator("#AXX-01 .rule").inner_text()
