"""What rows of full-size models are held to, and the pages that show them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import table
from benchmarks.full import targets

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30


def row(ratio: float, *, over: float = 0.0, compile_s: float = 0.0) -> dict[str, Any]:
    """Make a row of a model of 100 GiB that eager runs in 100 ms."""
    spread = {"median": ratio, "quartile_1": ratio - 0.01, "quartile_3": ratio + 0.01}
    ms = {name: 100 / value for name, value in spread.items()}
    measured = {
        "ms": ms,
        "eager_ms": {"median": 100.0, "quartile_1": 99.0, "quartile_3": 101.0},
        "ratio": spread,
        "first": {"total_s": 1.5},
        "weights_bytes": 100 * GIB,
        "resident_bytes": (100 + over) * GIB,
        "peak_bytes": 101 * GIB,
        "error": 0.01,
        "eager_error": 0.02,
    }
    prepared = {
        "start_up_s": 50.0,
        "export_s": 1.0,
        "lowering_s": 2.0,
        "compilation_s": compile_s - 3,
        "other_s": 0.0,
        "total_s": compile_s,
        "graphs_bytes": {"a": 2_000_000, "b": 1_000_000},
        "package_bytes": 3_000_000,
        "peak_bytes": 125 * GIB,
    }
    row = {"outcome": "ok", "measure": measured}
    return {**row, "prepare": prepared} if compile_s else row


def rows_of_all() -> dict[str, dict[str, Any]]:
    return {
        "eager": row(1.0, over=1),
        "spaces_whole": {
            "outcome": "crash",
            "message": "measure: died of SIGSEGV\nand more",
        },
        "aoti_ref_whole": row(1.5, over=2, compile_s=120),
        "aoti_ref_regional": row(1.48, over=2, compile_s=24),
    }


def file() -> dict[str, Any]:
    return {
        "benchmark": "flux",
        "environment": {
            "device": "cuda",
            "gpus": ["NVIDIA H200"],
            "cpus": 16,
            "versions": {"diffusers": "0.42.1"},
        },
        "finished": "2026-11-21T08:00:00+00:00",
        "figures": {
            "title": "A model",
            "tiny": False,
            "parallel_compiles": 3,
            "base": {
                "outcome": "ok",
                "work_tflop": {"matmul": 40.0, "attention": 6.0},
                "ceilings_tflops": {"matmul": 800.0, "attention": 600.0},
                "floor_ms": 60.0,
                "weights_bytes": 100 * GIB,
                "torch": "2.11.0",
                "compiler": "g++: g++ 13",
            },
            "rows": rows_of_all(),
            "targets": [
                targets.Verdict("speed (at least 2)", 1.5, good=False)._asdict()
            ],
        },
    }


def fp8_row(ratio: float, decibels: float) -> dict[str, Any]:
    """Make a row in FP8, on weights of half the size."""
    made = row(ratio, over=-49)
    made["measure"] |= {
        "weights_bytes": 50 * GIB,
        "fp8": True,
        "blocks_db": {"Block": decibels, "Other": 60.0},
    }
    return made


def test_targets_are_ratios_of_rows() -> None:
    rows = rows_of_all()

    assert all(verdict.good for verdict in targets.judge(rows))

    rows["aoti_ref_regional"] = row(1.4, over=4, compile_s=60)
    bad = {v.text: v.found for v in targets.judge(rows) if not v.good}
    assert bad == {
        "regional latency to whole (at most 1.02)": pytest.approx(1.5 / 1.4),
        "regional compile to whole (at most 0.25)": pytest.approx(0.5),
        "aoti_ref_regional: resident to weights (at most 1.02)": pytest.approx(1.03),
    }


def test_three_resolutions_may_take_more_memory_than_one() -> None:
    rows = {name: row(1.0, over=3.5) for name in ("aoti_ref_whole", "eager")}
    rows["aoti_ref_resolutions"] = row(1.5, over=6)

    memory = {v.text: v.good for v in targets.judge(rows) if "resident" in v.text}

    assert memory == {
        "aoti_ref_whole: resident to weights (at most 1.02)": True,
        "aoti_ref_resolutions: resident to weights (at most 1.03)": True,
    }


def test_a_target_without_its_rows_is_not_judged() -> None:
    assert targets.judge({"eager": row(1.0)}) == []


def test_nothing_compared_with_nan_is_good() -> None:
    rows = rows_of_all()
    rows["aoti_ref_whole"]["measure"]["error"] = float("nan")

    bad = [v.text for v in targets.judge(rows) if not v.good]

    assert bad == ["aoti_ref_whole: error to eager's (at most 3)"]


def test_a_page_has_every_row() -> None:
    text = table.section(file())

    assert (
        "| aoti_ref_whole | 66.7 (67.1 to 66.2) | 100.0 (99.0 to 101.0) | 1.50 |"
        in text
    )
    assert "| 90.0% | 1.50 | 0.50 |" in text
    assert "| eager | - | - | - | - | - | - | 1.00 | 1.00 | - |" in text
    assert "- spaces_whole: crash: measure: died of SIGSEGV\n" in text
    assert "- BAD  speed (at least 2): 1.5" in text
    assert "compiled 3 at a time" in text


def test_pages_are_the_same_each_time(tmp_path: Path) -> None:
    first, second = (table.pages([file()], tmp_path) for _ in range(2))

    assert first == second
    assert [path.name for path in first] == ["performance.md", "performance.svg"]
    assert "aoti_ref_regional" in first[tmp_path / table.PICTURE]


def test_without_results_there_are_no_pages(tmp_path: Path) -> None:
    (tmp_path / "overhead.json").write_text(json.dumps({"figures": {"ratio": 1}}))

    assert table.pages(table.read(tmp_path)) == {}
    assert table.excerpt([]) == ""


def test_rows_in_fp8_are_held_to_targets_of_their_own() -> None:
    rows = {"eager": row(1.0, over=1), "fp8_row_regional": fp8_row(2.0, 30)}
    assert all(verdict.good for verdict in targets.judge(rows))

    rows["fp8_row_regional"] = fp8_row(1.8, 19)
    rows["fp8_row_regional"]["measure"]["resident_bytes"] = 53 * GIB

    bad = {v.text: v.found for v in targets.judge(rows) if not v.good}
    assert bad == {
        "fp8_row_regional to eager (at least 1.9)": 1.8,
        "fp8_row_regional: Block to bf16, dB (at least 20)": 19,
        "fp8_row_regional: resident to weights (at most 1.02)": pytest.approx(1.04),
    }


def test_rows_in_fp8_are_held_to_a_floor_of_their_own() -> None:
    found = file()
    found["figures"]["base"] |= {"floor_fp8_ms": 40.0}
    found["figures"]["base"]["ceilings_tflops"]["matmul_fp8"] = 1480.0
    found["figures"]["rows"]["fp8_row_regional"] = fp8_row(2.0, 30)

    text = table.section(found)

    assert "| 80.0% | 1.50 | 0.50 | 30 |" in text
    assert "Products of FP8 reach 1480 TFLOP/s" in text


def test_speeds_that_last_are_told_beside_those_of_a_moment() -> None:
    found = file()
    assert "Over two seconds" not in table.section(found)  # an older file has none
    found["figures"]["base"] |= {
        "held": {
            "matmul": {"tflops": 684.0, "watts": 690.2, "mhz": 1515.0},
            "attention": {"tflops": 583.0, "watts": None, "mhz": None},
        },
        "held_floor_ms": 112.0,
        "held_floor_fp8_ms": None,
    }

    text = table.section(found)

    assert "products 684 TFLOP/s (690 W, 1515 MHz), attention 583 TFLOP/s;" in text
    assert "the floor at these is 112 ms." in text


def test_a_run_of_the_ceilings_alone_has_no_table(tmp_path: Path) -> None:
    found = file()
    alone = file()
    alone["figures"] |= {"title": "Ceilings", "rows": {}, "targets": []}

    pages = table.pages([alone, found], tmp_path)
    text = table.section(alone)

    assert "the floor is 60 ms" in text
    assert "|" not in text
    assert "A model" in table.excerpt([alone, found])
    assert b"Ceilings" not in pages[tmp_path / table.PICTURE].encode()
