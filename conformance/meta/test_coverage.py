"""The map from failure modes to clauses."""

from __future__ import annotations

from pathlib import Path

import pytest

import conformance
from conformance import coverage, spec

MODES = """
[C1]
title = "The first"

[C2]
title = "The second"
out = "it is no matter of a layer"

[K1]
title = "The third"
later = "SEC"
because = "calls come later"

[K2]
title = "The fourth"
later = "SEC"
"""

SPEC = """
## CAP capture

### CAP-01 The first claim
It MUST hold.
*Why:* It is the first.
*Covers:* C1, K1
"""

SEC = """
## SEC calls

### SEC-01 The second claim
It MUST hold.
*Why:* It is the second.
*Covers:* K1, K2
"""


def checked(modes: str = MODES, text: str = SPEC) -> str:
    """Check the small map, and give its table."""
    read = coverage.read(modes)
    clauses, chapters = spec.parse(text)
    coverage.check(read, clauses, chapters)
    return coverage.render(read, coverage.covering(clauses.values()), chapters)


def test_table_says_what_became_of_each_failure_mode() -> None:
    rows = [line for line in checked().splitlines() if line.startswith("| ")]

    assert rows == [
        "| id | what goes wrong | clauses |",
        "| C1 | The first | CAP-01 |",
        "| C2 | The second | out of scope: it is no matter of a layer |",
        "| id | what goes wrong | clauses |",
        "| K1 | The third | CAP-01; later: SEC (calls come later) |",
        "| K2 | The fourth | later: SEC |",
    ]


def test_table_counts() -> None:
    counts = "2 behind clauses, 1 out of scope, 1 left for later"

    assert f"4 failure modes: {counts}." in checked()


def test_a_promise_that_was_kept_is_not_shown() -> None:
    kept = checked(text=SPEC + SEC)

    assert "| K1 | The third | CAP-01, SEC-01 |" in kept
    assert "| K2 | The fourth | SEC-01 |" in kept


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('out = "it is', 'because = "it is', "C2 (The second) has no clause"),
        ('title = "The first"', 'title = "The first"\nout = "x"', "covered by CAP-01"),
        ("[C1]", "[C3]", "CAP-01 covers C1, which failure_modes.toml does not have"),
        (
            '"The fourth"\nlater = "SEC"',
            '"The fourth"',
            "K2 (The fourth) has no clause",
        ),
        ('"SEC"\nbecause', '"SIC"\nbecause', "no such chapter"),
        ('"SEC"\nbecause', '"CAP"\nout = "x"\nbecause', "both `out` and `later`"),
        ('later = "SEC"\nbecause', "because", "`because` without `later`"),
        ("[K1]", "[Z1]", "Z1 is no id"),
        ("[K1]", "[Kx]", "Kx is no id"),
        ('title = "The third"\n', "", "K1 has no title"),
        ("because", "reason", "K1 has 'reason'"),
    ],
)
def test_what_does_not_fit_is_named(old: str, new: str, problem: str) -> None:
    assert old in MODES

    with pytest.raises(coverage.BrokenCoverage) as caught:
        checked(MODES.replace(old, new))

    assert problem in str(caught.value)


def test_a_promise_that_was_broken_is_named() -> None:
    with pytest.raises(coverage.BrokenCoverage) as caught:
        checked(text=SPEC + SEC.replace("K1, K2", "K1"))

    assert caught.value.problems == (
        "K2 (The fourth) is put off to SEC, which is written and does not cover it",
    )


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(coverage.BrokenCoverage) as caught:
        checked(MODES.replace("[C1]", "[C3]").replace('out = "', 'later = "'))

    assert len(caught.value.problems) == 3


def test_command_writes_and_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "docs" / "coverage.md"

    missing = coverage.main(["--check", str(file)])
    written = coverage.main(["--write", str(file)])
    fresh = coverage.main(["--check", str(file)])
    file.write_text(file.read_text() + "\n")
    stale = coverage.main(["--check", str(file)])

    assert (missing, written, fresh, stale) == (1, 0, 0, 1)
    assert "is not up to date" in capsys.readouterr().err


def test_command_says_what_does_not_fit(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = tmp_path / "failure_modes.toml"
    broken.write_text('[C1]\ntitle = "The first"\n')
    monkeypatch.setattr(coverage, "MODES", broken)

    assert coverage.main(["--write", str(tmp_path / "coverage.md")]) == 1
    assert "which failure_modes.toml does not have" in capsys.readouterr().err
    assert not (tmp_path / "coverage.md").exists()


def test_coverage_in_the_docs_is_up_to_date() -> None:
    docs = Path(conformance.__file__).parents[1] / "docs" / "coverage.md"

    assert docs.read_text(encoding="utf-8") == coverage.table()
