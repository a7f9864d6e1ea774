"""Chapter PKG: what a package was made for, and where it is loaded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from conformance.clauses import _hosts, _unpacking
from conformance.clauses._packages import (
    Tampering,
    assert_refused,
    assert_right,
    tried,
)
from conformance.spec import clause

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter import Labels, Packages


@clause("PKG-01")
@pytest.mark.parametrize("which", ["newer", "older", "newer-major", "older-major"])
def test_a_package_of_another_torch_is_refused(
    impl: Packages, package: Path, temporary: Path, seed: int, which: str
) -> None:
    here = _hosts.other_torches()[which]
    lie = partial(_hosts.has_other_torch, here)

    found = tried(impl, [package], temporary, seed, lie)

    assert_refused(found, here, _hosts.release())


@clause("PKG-02")
def test_a_package_for_another_processor_is_refused(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    found = tried(impl, [package], temporary, seed, _hosts.is_other_machine)

    assert_refused(found, _hosts.other_machine())


@clause("PKG-02")
def test_a_package_for_another_system_is_refused(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    found = tried(impl, [package], temporary, seed, _hosts.is_other_system)

    assert_refused(found, "plan9")


@clause("PKG-03")
@pytest.mark.usefixtures("on_the_cpu")
def test_a_package_for_more_instructions_is_refused(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    lost = _hosts.vector_instructions()

    found = tried(impl, [package], temporary, seed, _hosts.has_no_vectors)

    assert_refused(found)
    words = (found[0].words or "").lower()
    assert any(name in words for name in lost), words


@clause("PKG-04")
@pytest.mark.usefixtures("on_the_cpu")
def test_a_package_for_fewer_instructions_is_taken(
    impl: Packages, package: Path, temporary: Path, seed: int
) -> None:
    found = tried(impl, [package], temporary, seed, _hosts.has_more_vectors)

    assert_right(found, seed)


@clause("PKG-05")
@pytest.mark.usefixtures("on_the_cpu")  # which pretends to have the GPU
@pytest.mark.parametrize(
    ("made", "here"),
    [("10.0", (9, 0)), ("9.0", (10, 0)), ("9.0", (8, 9)), ("8.9", (8, 6))],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_a_package_for_another_gpu_is_refused(
    impl: Labels,
    package: Path,
    temporary: Path,
    seed: int,
    made: str,
    here: tuple[int, int],
) -> None:
    impl.relabel(package, compute_capability=made)

    found = tried(impl, [package], temporary, seed, partial(_hosts.has_gpu, here))

    assert_refused(found, made, f"{here[0]}.{here[1]}")


@clause("PKG-05")
@pytest.mark.parametrize(
    ("made", "here"),
    [("9.0", (9, 0)), ("8.6", (8, 9)), ("8.9", (8, 10))],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_a_package_for_such_a_gpu_is_taken(
    impl: Labels,
    package: Path,
    temporary: Path,
    made: str,
    here: tuple[int, int],
) -> None:
    impl.relabel(package, compute_capability=made)

    def load() -> None:
        _hosts.has_gpu(here)
        impl.load(package)

    _unpacking.in_child(load, temporary)


@clause("PKG-25")
@pytest.mark.usefixtures("on_a_gpu")
def test_a_package_for_another_gpu_is_refused_on_this_one(
    impl: Labels, package: Path, temporary: Path, seed: int
) -> None:
    major, minor = _unpacking.in_child(torch.cuda.get_device_capability, temporary)
    made = f"{major + 1}.{minor}"
    impl.relabel(package, compute_capability=made)

    found = tried(impl, [package], temporary, seed)

    assert_refused(found, made, f"{major}.{minor}")
    assert found[0].untouched


@clause("PKG-06")
def test_a_package_of_a_format_to_come_is_refused(
    impl: Labels, package: Path, temporary: Path, seed: int
) -> None:
    impl.relabel(package, newer_format=True)

    found = tried(impl, [package], temporary, seed)

    assert_refused(found, "99")


@clause("PKG-07")
def test_a_package_that_needs_an_operator_is_refused_without(
    impl: Labels, package: Path, temporary: Path, seed: int
) -> None:
    impl.relabel(package, ops=["elsewhere::attention"])

    found = tried(impl, [package], temporary, seed)

    assert_refused(found, "elsewhere::attention")


@clause("PKG-07")
def test_a_package_whose_operators_are_there_is_taken(
    impl: Labels, package: Path, temporary: Path, seed: int
) -> None:
    impl.relabel(package, ops=["aten::add"])

    found = tried(impl, [Tampering(package, temporary.parent).copy()], temporary, seed)

    assert_right(found, seed)
