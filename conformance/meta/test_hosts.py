"""What a package asks of the system's libraries and of the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from aoti_ref import _host

if TYPE_CHECKING:
    from pathlib import Path

DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Wed Nov  1 2025\n"


def named(wanted: dict[str, Any]) -> list[tuple[str, str]]:
    """Name what is lacking of what a package that was made here would ask."""
    needs = _host.needs("cpu", []) | wanted
    return [(fault.kind, fault.name) for fault in _host.faults(needs)]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a machine with these libraries."""
    monkeypatch.setattr(_host, "_glibc", lambda: "2.31")
    offered = {"GLIBCXX": "3.4.9", "CXXABI": "1.3.11"}
    monkeypatch.setattr(_host, "_libstdcxx", lambda: offered)


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(
    ("wanted", "lacking"),
    [
        ({"GLIBC": "2.31", "GLIBCXX": "3.4.9", "CXXABI": "1.3.11"}, []),
        ({"GLIBC": "2.4", "CXXABI": "1.3.9"}, []),  # as numbers, not as texts
        ({"GLIBC": "2.34"}, ["GLIBC"]),
        ({"GLIBC": "2.31", "GLIBCXX": "3.4.30"}, ["GLIBCXX"]),
        ({"GLIBCXX": "3.4.10", "CXXABI": "1.3.13"}, ["GLIBCXX", "CXXABI"]),
        ({"GCC": "13.0"}, []),  # of which nobody knows what is here
    ],
)
def test_older_libraries_are_named(wanted: dict[str, str], lacking: list[str]) -> None:
    assert named({"libraries": wanted}) == [("library", name) for name in lacking]


def test_this_machine_has_what_it_offers() -> None:
    offered = {"GLIBC": _host._glibc(), **_host._libstdcxx()}

    assert offered.keys() >= {"GLIBC", "GLIBCXX", "CXXABI"}
    assert named({"libraries": offered}) == []
    newer = {name: f"{version}.1" for name, version in offered.items()}
    assert named({"libraries": newer}) == [("library", name) for name in offered]


@pytest.mark.parametrize(
    ("cuda", "driver", "lacking"),
    [
        ("13.0", "580.65.06", []),
        ("13.0", "580.100.01", []),
        ("13.1", None, []),  # nobody knows which driver there is
        ("13.0", "575.57.08", ["driver"]),
        ("12.8", "580.65.06", ["cuda"]),
        (None, None, ["cuda"]),
        ("12.8", "470.1.1", ["cuda", "driver"]),
    ],
)
def test_an_older_driver_and_another_cuda_are_named(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cuda: str | None,
    driver: str | None,
    lacking: list[str],
) -> None:
    place = tmp_path / "version"
    monkeypatch.setattr(_host, "_DRIVER", place)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    if driver is not None:
        place.write_text(DRIVER.format(driver))

    found = named({"cuda": "13.0", "driver": "580.65.06"})

    assert found == [("version", name) for name in lacking]


def test_packages_for_no_gpu_ask_for_no_driver() -> None:
    assert named({"cuda": None, "driver": None}) == []
