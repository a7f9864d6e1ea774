"""The pages that are written by hand: their links, their code, what they promise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from conformance.meta import parts
from conformance.meta.conftest import plugin
from conformance.results import read

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "*/*.md")
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith((".", "build"))
)
_LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|``.*?``|`[^`\n]*`", re.DOTALL)
_LINES = 20


def broken(page: Path) -> list[str]:
    """List the links of a page that lead nowhere."""
    text = page.read_text(encoding="utf-8")
    # A picture that is a link has its own inside the brackets of the other.
    text = re.sub(r"\[!\[[^\]]*\]\(([^)\s]+)\)\]", r"[x](\1) [x]", text)
    found = []
    for link in _LINK.findall(_CODE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        known = target.exists() and (
            not anchor
            or (target.suffix == ".md" and anchor in parts.anchors(target.read_text()))
        )
        if not known:
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A title: of `it`\n\n## Again\n\n## Again\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#a-title-of-it) [b](other.md#again-1) [c](https://example.org)\n"
        "[d](none.md) [e](other.md#none) [![f](no.png)](other.md) `[g](code.md)`\n"
    )

    assert broken(page) == ["none.md", "other.md#none", "no.png"]


def test_every_page_of_docs_is_reached_from_the_readme() -> None:
    reached = set()
    there = [ROOT / "README.md"]
    while there:
        page = there.pop()
        reached.add(page)
        links = _LINK.findall(page.read_text(encoding="utf-8"))
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links}
        there += [t for t in targets if t in PAGES and t not in {*reached, *there}]

    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= reached


def test_marked_parts_are_filled(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("print()\n")
    page = (
        "<!-- contents -->\nold\n<!-- end of contents -->\n## A b: C\n### D\n## E\n"
        "```\n## no heading\n```\n<!-- file: x.py -->\nold\n<!-- end of file -->\n"
    )

    filled = parts.filled(page, tmp_path)

    assert "- [A b: C](#a-b-c): 1 clauses\n- [E](#e)\n<!-- end" in filled
    assert (
        "<!-- file: x.py -->\n```python\nprint()\n```\n<!-- end of file -->" in filled
    )
    assert "old" not in filled
    assert parts.filled(filled, tmp_path) == filled


def test_contributing_fits_on_a_screen() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 50


def test_the_results_format_names_every_field() -> None:
    schema = json.loads(
        (ROOT / "conformance" / "aoti-conformance-1.schema.json").read_text()
    )
    page = (ROOT / "docs" / "results-format.md").read_text(encoding="utf-8")
    sections = dict(
        re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    )

    for kind in ("header", "plan", "result", "footer"):
        for name in schema["$defs"][kind]["properties"].keys() - {"kind"}:
            assert f"`{name}`" in sections[kind], (kind, name)
    for outcome in schema["$defs"]["outcome"]["enum"]:
        assert f"`{outcome}`" in sections["result"]


def test_the_adapter_is_as_short_as_its_page_says() -> None:
    text = (EXAMPLES / "my_adapter.py").read_text(encoding="utf-8")
    body = text.partition("capabilities")[2]

    lines = [line for line in body.splitlines() if line.strip()]

    assert len(lines) <= _LINES


def test_the_adapter_of_the_page_is_scored(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(EXAMPLES)])
    command = (
        *(sys.executable, "-m", "pytest", "--pyargs", "conformance.clauses"),
        *plugin(),
        *("-q", "-p", "no:cacheprovider", "--aoti-impl=my_cached_adapter"),
        *("--aoti-clause=CAP-01", "--aoti-clause=CAP-05", "--aoti-clause=APP-02"),
        "--aoti-report=mine.jsonl",
    )

    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    run = read(tmp_path / "mine.jsonl")
    assert run.complete
    assert run.name == "my_layer 0.1"
    outcomes = {result.clause: result.outcome for result in run.results}
    assert outcomes == {"CAP-01": "fail", "CAP-05": "pass", "APP-02": "pass"}
