"""The command `expect` keeps the comments of a file with what they speak of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.meta.test_cli_expect import expect, run_of

if TYPE_CHECKING:
    from pathlib import Path

ENTRY = 'reason = "known"\nsee = "there"\n'
COMMENTED = f"""\
# Known deviations.

# of one
[CAP-01]
{ENTRY}# it ends here

# of two, which
# takes two lines
[CAP-02]
{ENTRY}
# of the first of three
[[CAP-03]]
{ENTRY}when = {{ device = "cpu" }}
# of the second of three
[[CAP-03]]
{ENTRY}[CAP-03.when]
device = "cuda"

# of the file
"""


def test_comments_stay_with_the_entry_below_them(tmp_path: Path) -> None:
    run = run_of({"CAP-01": {"a": "pass"}, "CAP-03": {"c": "pass"}})

    text, _ = expect(tmp_path, COMMENTED, run)

    assert text == (
        "# Known deviations.\n\n"
        f"# of two, which\n# takes two lines\n[CAP-02]\n{ENTRY}\n"
        f"# of the second of three\n[[CAP-03]]\n{ENTRY}"
        '[CAP-03.when]\ndevice = "cuda"\n\n'
        "# of the file\n"
    )


def test_comments_stay_where_entries_come(tmp_path: Path) -> None:
    text = COMMENTED.replace("CAP-01", "CAP-04")
    run = run_of({"CAP-01": {"a": "fail"}, "CAP-02": {"c": "fail", "d": "pass"}})

    text, _ = expect(tmp_path, text, run)
    again, _ = expect(tmp_path, text, run)

    assert f"# of one\n[CAP-04]\n{ENTRY}# it ends here\n" in text
    assert "# takes two lines\n[CAP-02]" in text
    assert "# of the first of three\n[[CAP-03]]" in text
    assert text.startswith("# Known deviations.\n\n[CAP-01]")
    assert text.endswith("\n\n# of the file\n")
    assert again == text
