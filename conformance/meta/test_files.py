"""Files that commands read and write: pipes, links, odd text, and what is none."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from conformance import fuzz_results, plugin, writing
from conformance.cli import main
from conformance.lines import BrokenResults
from conformance.meta.runs import ONE, small_run, write
from conformance.results import Run, footer, read, save
from conformance.suite import SUITE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conformance.meta.conftest import Stage

# A lone surrogate, and ends of lines that are none of JSON's.
ODD = "odd \ud800 text \u2028 of \u0085 one\x0bline"


def told(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def whole(*outcomes: str) -> Run:
    run = small_run(*outcomes)
    return replace(run, footer=footer(run, [], 0.0))


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link, real = tmp_path / "link", tmp_path / "real"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)

    save(link, whole("pass"))
    kept = read(real).counts
    writing.write(link, "new")

    assert link.is_symlink()
    assert kept == {"pass": 1}
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize(
    "put",
    [
        lambda path: save(path, whole("pass")),
        lambda path: writing.write(path, "text"),
    ],
    ids=["save", "write"],
)
def test_a_pipe_is_written_to_and_stays(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()

    put(pipe)
    reader.join(timeout=10)

    assert pipe.is_fifo()
    assert found[0]
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "known.toml"
    path.write_text("old")
    monkeypatch.setattr(writing, "writable", lambda text: text)

    with pytest.raises(UnicodeEncodeError):
        writing.write(path, "new \ud800")

    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["known.toml"]


@pytest.mark.parametrize("kind", ["xfail", "fail"])
def test_odd_text_goes_into_every_page(tmp_path: Path, kind: str) -> None:
    odd = replace(ONE, id=f"t::test_{ODD}", outcome=kind, message=ODD)
    run = replace(whole(kind), plan={odd.id: odd.clause}, results=[odd])
    path = tmp_path / "out.jsonl"
    known = tmp_path / "known.toml"
    save(path, run)
    # As a version wrote it that did not look for such text.
    text = path.read_text().replace("\\ufffd", "\\ud800")
    path.write_text(text.replace("\\u2028", "\u2028").replace("\\u0085", "\u0085"))
    names = ("html", "markdown", "junit", "badge")

    shown = told("report", path, *(f"--{n}={tmp_path / n}" for n in names))
    expected = told("expect", "--update", known, path)
    merged = told("merge", path, "-o", tmp_path / "merged.jsonl")

    for done in (shown, expected, merged):
        assert done.exit_code == 0, done.output
    assert all((tmp_path / name).read_text() for name in names)
    assert "CAP-01" in known.read_text()
    assert read(tmp_path / "merged.jsonl").results[0].message == ODD.replace(
        "\ud800", "\ufffd"
    )


def test_a_report_reads_pipes(tmp_path: Path) -> None:
    header = {
        "implementation": {"name": "small", "version": "1.0"},
        "environment": {"versions": {}},
        "not_compiled": {},
    }
    plain, fuzz = tmp_path / "plain", tmp_path / "fuzz"
    write(plain, small_run("pass"))
    tally = fuzz_results.Tally()
    fuzz_results.write(fuzz, header, [], tally, lambda case: case.kind)
    pipes = [tmp_path / f"{path.name}.pipe" for path in (plain, fuzz)]
    for pipe in pipes:
        os.mkfifo(pipe)
    threads = [
        threading.Thread(target=pipe.write_text, args=(path.read_text(),))
        for path, pipe in zip((plain, fuzz), pipes, strict=True)
    ]
    for thread in threads:
        thread.start()

    done = told("report", *pipes)

    for thread in threads:
        thread.join(timeout=10)
    assert done.exit_code == 0, done.output
    assert "all           conformant" in done.output.replace("         ", "          ")
    assert "small 1.0: fuzz" in done.output


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, ": cannot be read ("),
        ("", ": is empty: its run was killed before its plan was written"),
        ("[" * 100_000 + "\n", ":1: is no JSON ("),
        (
            json.dumps({"kind": "header", "format": "aoti-conformance/2"}) + "\n",
            ":1: is of the format 'aoti-conformance/2', and 'aoti-conformance/1' is",
        ),
        (
            json.dumps({"kind": "header", "format": "aoti-conformance-fuzz/1"}),
            ":1: is of the format 'aoti-conformance-fuzz/1', and 'aoti-conformance/1'",
        ),
    ],
    ids=["missing", "empty", "deep", "newer", "fuzz"],
)
def test_what_is_no_run_is_one_sentence(
    tmp_path: Path, text: str | None, problem: str
) -> None:
    path = tmp_path / "out.jsonl"
    if text is not None:
        path.write_text(text)

    with pytest.raises(BrokenResults) as caught:
        read(path)

    assert str(caught.value).startswith(f"{path}{problem}")
    assert told("diff", path, path).output == f"Error: {caught.value}\n"


def test_a_run_that_was_killed_after_its_header_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "out.jsonl", small_run("pass"))
    path.write_text(path.read_text().partition("\n")[0] + "\n")

    done = told("report", path)

    assert done.exit_code == 4
    assert done.output == f"Error: {path}: was killed before its plan was written\n"


def test_a_report_that_fills_the_disk_is_one_sentence(stage: Stage) -> None:
    stage.clauses("""
        @clause("CAP-01")
        def test_one(): ...

        @clause("CAP-02")
        def test_two(): ...
    """)

    done = stage.run("--aoti-report=/dev/full")

    told = [line for line in done.outlines if "--aoti-report=/dev/full: cannot" in line]
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert len(told) == 1
    assert "INTERNALERROR" not in done.stdout.str() + done.stderr.str()
    assert "results: " not in done.stdout.str()


def test_a_worker_that_died_hides_no_problem() -> None:
    suite = SimpleNamespace(problem="", gpus=SimpleNamespace(give=lambda _: None))

    for output in ({"aoti_problem": "no such clause"}, {}):
        node = SimpleNamespace(
            config=SimpleNamespace(stash={SUITE: suite}),
            gateway=SimpleNamespace(id="gw0"),
            workeroutput=output,
        )
        plugin.pytest_testnodedown(node)

    assert suite.problem == "no such clause"
