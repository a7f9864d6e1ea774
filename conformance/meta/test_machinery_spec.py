"""The parser of SPEC.md."""

from __future__ import annotations

import pytest

from conformance.spec import BrokenSpec, catalogue, parse

GOOD = """# A specification

```markdown
## CAP in a fence is no chapter
```

## CAP capture

### CAP-01 The first claim
The first paragraph MUST
go on here.

So does the second.
*Why:* One reason,
over two lines.
*Covers:* C1, C2
*Needs:* dynamic, package

#### CAP-02 Another claim, withdrawn
It is gone.

### CAP-03 The third claim
It MUST NOT fail.
*Why:* A reason.
*Profile:* hopper
"""


def test_parser_reads_clauses() -> None:
    clauses, chapters = parse(GOOD)

    assert chapters == {"CAP": "capture"}
    assert list(clauses) == ["CAP-01", "CAP-03"]
    first = clauses["CAP-01"]
    assert first.title == "The first claim"
    assert first.text == "The first paragraph MUST go on here.\n\nSo does the second."
    assert first.why == "One reason, over two lines."
    assert first.covers == ("C1", "C2")
    assert first.profile == first.needs == ("dynamic", "package")
    assert clauses["CAP-03"].profile == ("hopper",)


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("CAP-03 The", "CAP-01 The", 22, "CAP-01 is there twice"),
        ("CAP-03 The", "CAP-02 The", 22, "CAP-02 is there twice"),
        ("CAP-03 The", "EXP-03 The", 22, "EXP-03 is in the chapter CAP"),
        ("CAP-03 The", "CAP-3 The", 22, "is no clause"),
        ("third", "a b c d e f g h", 22, "ten words"),
        ("MUST NOT", "may not", 22, "no MUST"),
        ("*Why:* A reason.", "", 22, "no *Why:*"),
        ("dynamic, package", "dynamics", 17, "needs 'dynamics'"),
        ("hopper", "hoper", 25, "names the profile 'hoper'"),
        ("### CAP-03", "## CAP capture\n### CAP-03", 22, "chapter CAP is there twice"),
        ("*Profile:* hopper", "*Why:* Again.", 25, "*Why:* twice"),
    ],
)
def test_parser_names_the_line_that_is_wrong(
    old: str, new: str, line: int, problem: str
) -> None:
    with pytest.raises(BrokenSpec) as caught:
        parse(GOOD.replace(old, new))

    assert caught.value.line == line
    assert problem in str(caught.value)


def test_catalogue_of_this_package_is_in_order() -> None:
    assert all(clause.id == name for name, clause in catalogue().items())
