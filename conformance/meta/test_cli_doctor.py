"""The command `doctor`: it finds what breaks, says the cure, and survives it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from conformance import cli_doctor
from conformance.cli import main
from conformance.doctor import checks, gpu, probes, versions
from conformance.doctor.checks import CHECKS, Check, Examination
from conformance.doctor.findings import BREAKS, GOOD, NOTE, Finding
from conformance.fresh import Died, fresh_python

if TYPE_CHECKING:
    from pathlib import Path

_GXX = shutil.which(os.environ.get("CXX", "g++")) or "g++"


def look(name: str, visit: Examination) -> list[Finding]:
    (check,) = (check for check in (*CHECKS, gpu.SEEN) if check.name == name)
    return check.look(visit)


class Answers(Examination):
    """A visit whose children have answered already, or died."""

    def __init__(self, folder: Path, **answers: Any) -> None:
        super().__init__(folder)
        self._answers = answers
        self.asked: list[tuple[Any, ...]] = []

    def ask(self, probe: str, *args: Any, **_: Any) -> Any:
        self.asked.append((probe, *args))
        answer = self._answers[probe]
        return answer(*args) if callable(answer) else answer

    def known(self, probe: str, *_: Any) -> Any:
        return self._answers.get(probe)


def test_machine_that_is_well_is_told_so(tmp_path: Path) -> None:
    names = "python", "tmpdir", "disk"

    done = CliRunner().invoke(
        main,
        ["doctor", *(f"--check={name}" for name in names)],
        env={"AOTI_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path)},
    )

    lines = done.output.splitlines()
    assert done.exit_code == 0, done.output
    assert [line.split()[2] for line in lines[:5]] == [
        "python",
        "tmpdir",
        "disk",
        "disk",
        "disk",
    ]
    assert lines[-1].startswith("0 that break")


def test_segmentation_fault_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("import ctypes\nctypes.string_at(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    done = CliRunner().invoke(
        main, ["doctor", "--json", "--check=torch", "--check=fork", "--check=python"]
    )

    told = json.loads(done.output)
    python, torch, fork = told["findings"]
    assert done.exit_code == 1
    assert told["good"] is False
    assert python["level"] == GOOD
    assert (torch["level"], torch["found"]) == (BREAKS, "torch: SIGSEGV")
    assert "reinstall torch" in torch["cure"]
    assert fork["found"] == "OpenMP after a fork: SIGSEGV"


def test_child_that_hangs_or_raises_is_a_finding() -> None:
    def hangs(visit: Examination) -> list[Finding]:
        return visit.ask("load", "x.so", timeout_s=0.01) or []

    def raises(visit: Examination) -> list[Finding]:
        return visit.ask("needed", "/no/such.so", timeout_s=60) or []

    lost = [Check("one", "One", hangs, "wait"), Check("two", "Two", raises, "look")]
    one, two = cli_doctor._examine(lost, lambda _: None)

    assert one == Finding("one", BREAKS, "One: still running after 0.01 s", "wait")
    assert two.found.startswith("Two: FileNotFoundError:")
    assert two.cure == "look"


def test_child_that_died_is_not_asked_again(tmp_path: Path) -> None:
    visit = Examination(tmp_path)

    caught = []
    for _ in range(2):
        with pytest.raises(Died) as died:
            visit.ask("needed", "/no/such.so", timeout_s=60)
        caught.append(died.value)

    assert caught[0] is caught[1]
    assert visit.known("needed", "/no/such.so") is None


def test_doctor_imports_no_torch_of_its_own() -> None:
    code = """
import sys
from click.testing import CliRunner
from conformance.cli import main
done = CliRunner().invoke(main, ["doctor", "--check=tmpdir"])
result = [done.exit_code, "torch" in sys.modules]
"""
    assert fresh_python(code).value == [0, False]


def test_compiler_that_links_its_own_libstdcxx_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "static-g++"
    wrapper.write_text(f'#!/bin/sh\nexec {_GXX} "$@" -static-libstdc++\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))

    done = CliRunner().invoke(main, ["doctor", "--check=compiler"])

    assert done.exit_code == 1
    assert "no shared libstdc++ (it needs " in done.output
    assert "cure: compile with the system's compiler: CXX=g++" in done.output


def test_compiler_that_is_not_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/g++")

    done = CliRunner().invoke(main, ["doctor", "--check=compiler"])

    assert done.exit_code == 1
    assert "/no/such/g++" in done.output
    assert "cure: install one" in done.output


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, [(GOOD, "on 4 threads")]),
        ({"after": "hangs"}, [(NOTE, "after OpenMP ran in its parent hangs")]),
        ({"clean": "SIGSEGV"}, [(BREAKS, "computed nothing is ended by SIGSEGV")]),
        (
            {"runtimes": ["libgomp.so.1", "libiomp5.so"]},
            [(NOTE, "libgomp.so.1, libiomp5.so")],
        ),
    ],
)
def test_forks_are_judged(
    tmp_path: Path, facts: dict[str, Any], found: list[tuple[str, str]]
) -> None:
    well = {"threads": 4, "clean": "ok", "after": "ok", "runtimes": ["libgomp.so.1"]}

    told = look("fork", Answers(tmp_path, forks={**well, **facts}))

    assert [entry.level for entry in told] == [level for level, _ in found]
    assert all(words in t.found for t, (_, words) in zip(told, found, strict=True))


@pytest.mark.parametrize(
    ("refused", "package", "wants", "level"),
    [
        ("", "p.pt2", False, GOOD),
        ("cannot enable executable stack", "p.pt2", False, GOOD),
        ("", "p.pt2", True, NOTE),
        ("cannot enable executable stack", "p.pt2", True, BREAKS),
        ("cannot enable executable stack", None, True, NOTE),
    ],
)
def test_executable_stack_is_judged(
    tmp_path: Path, refused: str, package: str | None, *, wants: bool, level: str
) -> None:
    visit = Answers(
        tmp_path,
        compiler={"execstack": "e.so"},
        load=refused,
        compile_package=package,
        wants_executable_stack=wants,
    )

    (found,) = look("execstack", visit)

    assert found.level == level
    assert ("GLIBC_TUNABLES" in found.cure) == (level != GOOD)


@pytest.mark.parametrize(
    ("option", "wanted"), [("execstack", True), ("noexecstack", False)]
)
def test_probe_reads_the_stack_of_a_package(
    tmp_path: Path, option: str, *, wanted: bool
) -> None:
    source, library = tmp_path / "x.c", tmp_path / "x.so"
    source.write_text("int x(void) { return 1; }\n")
    build = [_GXX, "-shared", "-fPIC", f"-Wl,-z,{option}", "-o", str(library)]
    subprocess.run([*build, "-x", "c", str(source)], check=True)
    with zipfile.ZipFile(tmp_path / "p.pt2", "w") as archive:
        archive.write(library, "data/aotinductor/model/x.wrapper.so")
        archive.writestr("data/weights", b"no library")

    assert probes.wants_executable_stack(str(tmp_path / "p.pt2")) is wanted


@pytest.mark.parametrize(
    ("cuda", "listed", "names", "level", "words"),
    [
        (None, [], [], GOOD, "torch for the CPU"),
        (None, ["H200"], [], NOTE, "torch is for CPU only"),
        ("13.0", ["H200"], [], BREAKS, "torch sees none"),
        ("13.0", [], [], NOTE, "there is no GPU here"),
        ("13.0", ["H200"], ["H200"], GOOD, "torch sees 1 x H200"),
    ],
)
def test_gpus_are_judged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cuda: str | None,
    listed: list[str],
    names: list[str],
    level: str,
    words: str,
) -> None:
    monkeypatch.setattr(gpu, "describe", lambda: {"gpus": listed})
    visit = Answers(tmp_path, torch_build={"cuda": cuda}, gpus={"names": names})

    (found,) = look("gpu", visit)

    assert found.level == level
    assert words in found.found


def test_every_gpu_gets_a_package_of_its_own(tmp_path: Path) -> None:
    visit = Answers(
        tmp_path,
        gpus={"names": ["H100", "H200"]},
        compile_package=lambda _, device: f"{device}.pt2",
        run_package=lambda package, _: 0.0 if package == "cuda:0.pt2" else float("nan"),
    )

    first, second = gpu.each(visit)
    told = [*first.look(visit), *second.look(visit)]

    assert [entry.level for entry in told] == [GOOD, BREAKS]
    assert "H200" in second.title
    assert ("run_package", "cuda:1.pt2", "cuda:1") in visit.asked


def test_tiny_package_compiles_loads_and_runs(tmp_path: Path) -> None:
    found = checks.on_device(Examination(tmp_path), "cpu", "cpu")

    assert found == Finding(
        "cpu", GOOD, "a tiny package compiles, loads and runs on cpu"
    )


def test_version_that_is_known_to_be_broken_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(versions, "version", lambda _: "2.10.0+cu130")

    (found,) = versions.check_versions(ours=lambda: ["torch>=2.10"])

    assert found.level == NOTE
    assert found.found.startswith("torch 2.10.0+cu130: a process that compiled nothing")


def test_version_that_the_suite_is_not_written_for_is_found() -> None:
    (found,) = versions.check_versions(
        ours=lambda: [
            'click>=99; extra == "test"',
            "rich>=1",
            'pytest>=99; extra == "other"',
            "no-such-distribution>=1",
        ]
    )

    assert found.level == NOTE
    assert "the suite is written for >=99" in found.found
    assert found.cure == "pip install 'click>=99'"
