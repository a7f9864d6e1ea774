"""The board in HTML, as far as no browser is needed."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from conformance import html_board, html_data, measured
from conformance.browser import samples
from conformance.cli import main
from conformance.html_board import Files, render
from conformance.lines import BrokenResults

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"

THERE: dict[str, Any] = {"gpus": [], "cpus": 2, "versions": {}}


def data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_a_page_carries_every_command_as_it_was() -> None:
    known = samples.catalogue(2, 6)
    run = samples.run("first", known, shift=0, message=samples.HOSTILE)
    odd = replace(run.results[0], id="t::other", command="echo '{}' $HOME")
    run.results[0] = odd
    run.plan[odd.id] = odd.clause

    packed = data(render(Files([run], [], []), known))

    strings = packed["strings"]
    found = {}
    for clause in packed["clauses"].values():
        for test in clause["tests"][0]:
            told = [strings[number] for number in test[1:]]
            found[told[0]] = (packed["outcomes"][test[0]], *told[1:])
    for result in run.results:
        outcome, message, command = found[result.id]
        assert (outcome, message) == (result.outcome, result.message)
        assert command.replace("\0", shlex.quote(result.id)) == result.command


def test_what_a_message_says_stays_text() -> None:
    page = samples.board()

    for tag in ("<img", "<b>nobody", "</script><script>window"):
        assert tag not in page
    assert page.count("<script") == 2


def test_a_page_asks_for_nothing() -> None:
    page = samples.board()

    assert "default-src 'none'" in page.replace("&#39;", "'")
    assert not re.search(r"<(link|iframe|img)\b|<\w+[^>]*\bsrc=|@import|url\(", page)


def test_a_run_that_was_cut_short_says_so() -> None:
    known = samples.catalogue(1, 3)
    run = samples.run("first", known, shift=0)
    del run.results[1:]
    run.footer = None

    page = render(Files([run], [], []), known)

    assert "Incomplete: the run was cut short, 5 of 6 tests have no result." in page
    assert [row.cells[0].outcome for row in html_data.rows([run], known)] == [
        "not run",
        "not run",
        "not run",
    ]
    assert "· not run" in re.sub("<.*?>", "", page)


@pytest.mark.parametrize(
    ("outcomes", "shown", "share"),
    [
        (("pass", "pass"), "pass", ""),
        (("pass", "fail"), "fail", "1 of 2"),
        (("xfail", "crash"), "crash", "1 of 2"),
    ],
)
def test_a_cell_shows_the_worst(
    outcomes: tuple[str, str], shown: str, share: str
) -> None:
    known = samples.catalogue(1, 1)
    run = samples.run("first", known, shift=0)
    pairs = zip(run.results, outcomes, strict=True)
    run.results = [replace(result, outcome=outcome) for result, outcome in pairs]

    (row,) = html_data.rows([run], known)

    assert (row.cells[0].outcome, row.cells[0].share) == (shown, share)


def test_clauses_of_another_catalogue_are_shown_too() -> None:
    ours, theirs = samples.catalogue(1, 2), samples.catalogue(2, 1)
    run = samples.run("first", theirs, shift=0)

    page = render(Files([run], [], []), ours)

    names = [row.id for row in html_data.rows([run], ours)]
    assert names == ["AXX-00", "AXX-01", "BXX-00"]
    assert "The specification of this installation does not have BXX-00." in page
    assert "It was asked another catalogue" in page


def test_equal_names_stay_apart() -> None:
    known = samples.catalogue(1, 1)
    runs = [samples.run("first", known, shift=shift) for shift in (0, 1)]

    values = re.findall(
        r'name="impl" value="(.*?)"', render(Files(runs, [], []), known)
    )

    assert len(set(values)) == 2


@pytest.mark.parametrize("part", ["runs", "fuzzed", "measured"])
def test_any_part_stands_alone(part: str) -> None:
    known = samples.catalogue(1, 2)
    run = samples.run("first", known, shift=0)
    none = Files([], [], [])
    whole = Files([run], [samples.fuzz()], [samples.measurement()])
    page = render(replace(none, **{part: getattr(whole, part)}), known)

    ids = {"runs": "clauses", "fuzzed": "fuzz", "measured": "measured"}
    assert [f'<section id="{name}"' in page for name in ids.values()] == [
        name == part for name in ids
    ]


def test_figures_become_bars_by_their_shape(tmp_path: Path) -> None:
    spread = {"median": 2.0, "quartile_1": 1.0, "quartile_3": 3.0}
    figures = {
        "calls": {"unit": "us", "fast": spread, "slow": spread, "ratio": spread},
        "compile": {"whole_s": [3.0, 1.0, 2.0], "parts_s": 4, "ok": True},
        "peaks_bytes": {"whole": 10, "parts": 5},
        "good": {"nothing left": False},
    }
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"environment": THERE, "figures": figures}))

    found = measured.read(path)

    assert [(c.title, c.unit, [b[0] for b in c.bars]) for c in found.charts] == [
        ("calls", "us", ["fast", "slow"]),
        ("compile", "s", ["whole", "parts"]),
        ("peaks", "bytes", ["whole", "parts"]),
    ]
    assert found.charts[1].bars[0].text == "2 (1 to 3)"
    assert found.charts[1].bars[1].text == "4"
    assert found.checks == (measured.Check("nothing left", "no", "yes", good=False),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"environment": {}}',
        '{"environment": {}, "figures": {}}',
        "[" * 100_000,
        *(
            json.dumps({"environment": THERE, "figures": figures})
            for figures in (
                [1],
                "text",
                {"good": [1]},
                {"a": {"quartile_1": "x", "median": 1, "quartile_3": 2}},
                {"a": {"quartile_1": 1, "median": float("nan"), "quartile_3": 2}},
                {"rows": {"a": {"outcome": "ok"}}, "base": 1},
            )
        ),
    ],
    ids=lambda text: text[:20] + text[-30:],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)

    with pytest.raises(BrokenResults, match=r"^\S+x\.json: [^\n]+$") as caught:
        measured.read(path)

    assert not re.search(r"KeyError|TypeError|object has no|indices", str(caught.value))


def _measures_rows(path: Path) -> bool:
    """Whether a file is more than the ceilings of a machine, which are no bars."""
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return not isinstance(figures, dict) or figures.get("rows") != {}


@pytest.mark.parametrize(
    "path",
    sorted(path for path in RESULTS.glob("*.json") if _measures_rows(path)),
    ids=lambda path: path.stem,
)
def test_our_own_measurements_have_something_to_show(path: Path) -> None:
    found = measured.read(path)

    assert found.charts or found.checks


def test_report_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "board.html"
    files = [
        RESULTS / "reference-cpu-torch2.13.jsonl",
        RESULTS / "fuzz-reference-cpu-torch2.13.jsonl",
        RESULTS / "soak-cpu.json",
    ]

    done = CliRunner().invoke(main, ["report", *map(str, files), f"--html={page}"])

    assert done.exit_code == 0, done.output
    text = page.read_text(encoding="utf-8")
    for part in ("verdicts", "clauses", "fuzz", "measured"):
        assert f'<section id="{part}"' in text


def test_report_refuses_what_it_cannot_do_in_one_sentence(tmp_path: Path) -> None:
    soak = str(RESULTS / "soak-cpu.json")
    nowhere = f"--html={tmp_path / 'none' / 'board.html'}"

    alone = CliRunner().invoke(main, ["report", soak])
    lost = CliRunner().invoke(main, ["report", soak, nowhere])

    assert alone.exit_code == lost.exit_code == 4
    assert "measurements are shown in a page only: --html FILE" in alone.output
    assert "cannot be written" in lost.output


def test_every_outcome_has_a_sign_and_a_meaning() -> None:
    assert set(html_board.MARKS) == set(html_board.MEANINGS) == set(html_data.SHOWN)
