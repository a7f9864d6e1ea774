"""Workflows and actions that other repositories use: pinned, and deaf to injections."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
SHARED = GITHUB / "workflows" / "conformance.yml"
CALLER = ROOT / "examples" / "downstream" / ".github" / "workflows" / "conformance.yml"
FILES = sorted([*GITHUB.rglob("*.yml"), CALLER])


def read(path: Path) -> dict[Any, Any]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def inputs() -> dict[str, Any]:
    # YAML 1.1 takes the key `on` for a boolean.
    return dict(read(SHARED)[True]["workflow_call"]["inputs"])


def steps(found: Any) -> list[dict[str, Any]]:
    """Give every step of a workflow or an action."""
    if isinstance(found, dict):
        own = found.get("steps") or []
        return [*own, *(step for value in found.values() for step in steps(value))]
    return []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_actions_have_versions_and_scripts_no_expressions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"^[ -]+uses: (\S+)", text, re.MULTILINE)
    scripts = [step["run"] for step in steps(read(path)) if "run" in step]

    assert used + scripts
    for action in used:
        assert re.fullmatch(r"\./\S+|\S+@v\d\S*", action)
    # Only the matrix is ours: all else could hold a stranger's words.
    for script in scripts:
        assert set(re.findall(r"\$\{\{ *(\w+)", script)) <= {"matrix"}


def test_a_push_to_a_labelled_pull_request_runs_nothing_on_our_machine() -> None:
    workflow = read(GITHUB / "workflows" / "gpu.yml")
    condition = workflow["jobs"]["hopper"]["if"]

    assert workflow[True]["pull_request"]["types"] == ["labeled"]
    assert condition == (
        "github.event_name == 'push' || github.event.label.name == 'gpu'"
    )


def test_the_sample_gives_inputs_that_there_are() -> None:
    given = read(CALLER)["jobs"]["gate"]["with"]
    required = {name for name, entry in inputs().items() if entry.get("required")}

    assert required <= given.keys() <= inputs().keys()


def test_the_suite_comes_from_where_the_workflow_does() -> None:
    used = read(CALLER)["jobs"]["gate"]["uses"]
    repository, _, version = used.partition("/.github/workflows/conformance.yml@")
    place = f"git+https://github.com/{repository}@{version}"

    assert inputs()["suite"]["default"] == f"aoti-conformance[test] @ {place}"


def gate(folder: Path, **given: str) -> list[str]:
    """Run the gate's script with a `python` that writes down its arguments."""
    (step,) = [each for each in steps(read(SHARED)) if each.get("name") == "Gate"]
    asked = {
        name: re.findall(r"inputs\.([\w-]+)", value)[0]
        for name, value in step["env"].items()
    }
    defaults = {name: entry.get("default", "") for name, entry in inputs().items()}
    chosen = {name: str((defaults | given)[key]) for name, key in asked.items()}
    python = folder / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > arguments\n')
    python.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    bash = shutil.which("bash") or "bash"
    subprocess.run(
        [bash, "-euo", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={"PATH": path, **chosen},
        check=True,
    )
    return (folder / "arguments").read_text().splitlines()


def test_the_gate_hands_on_what_it_is_given(tmp_path: Path) -> None:
    found = gate(tmp_path, adapter="a.b:c", expected="my known.toml", clauses="A-1 B-2")

    assert found == [
        *("-m", "pytest", "--pyargs", "conformance", "-n", "4"),
        *("--aoti-impl=a.b:c", "--aoti-profile=all"),
        *("--aoti-expected=my known.toml", "--aoti-clause=A-1", "--aoti-clause=B-2"),
        "--aoti-report=results.jsonl",
    ]


def test_the_gate_runs_nothing_that_it_is_given(tmp_path: Path) -> None:
    found = gate(
        tmp_path, adapter="$(touch a)", clauses="`touch` * ;touch", workers="0"
    )

    assert "--aoti-impl=$(touch a)" in found
    assert [each for each in found if each.startswith("--aoti-clause")] == [
        "--aoti-clause=`touch`",
        "--aoti-clause=*",
        "--aoti-clause=;touch",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arguments", "python"]
    assert not any(each.startswith("--aoti-expected") for each in found)
