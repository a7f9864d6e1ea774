"""Parts of pages that are made from something else: code, and tables of contents.

A page marks such a part in comments:

    <!-- file: docs/examples/my_adapter.py -->   the file, as a block of code
    <!-- end of file -->
    <!-- contents -->                           the headings of level 2 below it
    <!-- end of contents -->
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FILE = re.compile(r"(<!-- file: (\S+) -->\n).*?(<!-- end of file -->)", re.DOTALL)
_CONTENTS = re.compile(r"(<!-- contents -->\n).*?(<!-- end of contents -->)", re.DOTALL)
_HEADING = re.compile(r"(#{1,6}) +(.*?)\s*")
_FENCE = re.compile(r"\s*(```|~~~)")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def filled(text: str, root: Path) -> str:
    """Write the marked parts of a page anew; `root` is where its files are."""

    def code(found: re.Match[str]) -> str:
        body = (root / found[2]).read_text(encoding="utf-8").rstrip()
        return f"{found[1]}```python\n{body}\n```\n{found[3]}"

    text = _FILE.sub(code, text)
    return _CONTENTS.sub(lambda found: f"{found[1]}{_listed(text)}{found[2]}", text)


def headings(text: str) -> list[tuple[int, str]]:
    """List the headings of a page, with their levels; those in code are none."""
    found = []
    fenced = False
    for line in text.splitlines():
        fenced ^= _FENCE.match(line) is not None
        if not fenced and (heading := _HEADING.fullmatch(line)):
            found.append((len(heading[1]), heading[2]))
    return found


def anchors(text: str) -> list[str]:
    """Give the anchor of every heading, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = []
    for _, title in headings(text):
        plain = _LINK.sub(r"\1", title).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.append(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def _listed(text: str) -> str:
    """List the headings of level 2, and how many of level 3 each has."""
    lines: list[tuple[str, int]] = []
    pairs = zip(headings(text), anchors(text), strict=True)
    for (level, title), anchor in pairs:
        if level == 2:
            lines.append((f"- [{title}](#{anchor})", 0))
        elif level == 3 and lines:
            lines[-1] = lines[-1][0], lines[-1][1] + 1
    return "".join(f"{line}{_clauses(count)}\n" for line, count in lines)


def _clauses(count: int) -> str:
    return f": {count} clauses" if count else ""
