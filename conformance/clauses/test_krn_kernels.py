"""Chapter KRN: kernels before the capture, in a package, and before the first run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance.clauses import _hubs, _kernels
from conformance.clauses._compiles import files_of
from conformance.clauses._hubs import asks_for_no_file
from conformance.clauses._kernels import answer, put, refused
from conformance.clauses._threads import assert_near
from conformance.clauses._unpacking import compiled_anew, in_child
from conformance.fresh import fresh_python
from conformance.models import blocks, kernels
from conformance.spec import clause
from conformance.workbench import Pair, applied_copy, assert_agrees, refuses

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter_hub import Kernels
    from conformance.cache import PackageCache
    from conformance.loopback import Hub


@pytest.fixture
def package(impl: Any, cache: PackageCache, tmp_path: Path, seed: int) -> Path:
    """Save a compiled Attending; this process knows nothing of the kernel."""
    return _kernels.attending(impl, cache, tmp_path, seed)


@clause("KRN-01")
def test_a_kernels_operator_computes_what_it_computes_eagerly(
    impl: Kernels, cache: PackageCache, tmp_path: Path, seed: int
) -> None:
    impl.use_kernel(kernels.REPOSITORY, folder=kernels.write(tmp_path / "kernel"))
    compiled = cache.compiled(blocks.seeded(kernels.Attending), kernels.call())
    module = blocks.seeded(kernels.Attending, seed)
    twin = applied_copy(impl, compiled, module)

    assert_agrees(Pair(module, twin), kernels.call(seed))
    before = kernels.calls()
    twin(*kernels.call(seed).args)
    assert kernels.calls() == before + 1


@clause("KRN-02")
def test_a_package_brings_its_kernels_with_it(
    package: Path, tmp_path: Path, adapter_name: str, seed: int
) -> None:
    folder = put(tmp_path / "kernel")

    task = "conformance.clauses._kernels:fresh_answer"
    found = fresh_python(task, adapter_name, str(package), seed).value

    assert found["ran"] == 1
    assert_near(torch.tensor(found["value"]), torch.tensor(_kernels.want(folder, seed)))


@clause("KRN-02")
def test_a_kernel_that_was_not_there_is_loaded_when_it_is(
    impl: Any, package: Path, temporary: Path, tmp_path: Path, seed: int
) -> None:
    def load() -> Any:
        ended = refused(lambda: answer(impl, package, seed))
        folder = put(tmp_path / "kernel")
        return ended["words"], answer(impl, package, seed), _kernels.want(folder, seed)

    words, found, wanted = in_child(load, temporary)

    assert words is not None
    assert_near(torch.tensor(found), torch.tensor(wanted))


@clause("KRN-03")
def test_a_kernel_that_is_not_there_is_named(
    impl: Any, package: Path, temporary: Path, tmp_path: Path, seed: int
) -> None:
    revision = impl.kernel_revision(tmp_path / "kernel-of-the-build")

    found = in_child(lambda: refused(lambda: answer(impl, package, seed)), temporary)

    wanted = [kernels.OPERATOR, kernels.REPOSITORY, revision]
    assert found["words"] is not None
    assert [name for name in wanted if name not in found["words"]] == []


@clause("KRN-04")
def test_kernels_are_asked_for_before_native_code_is_loaded(
    impl: Any, package: Path, temporary: Path, tmp_path: Path, seed: int
) -> None:
    def load() -> Any:
        module = blocks.seeded(kernels.Attending, seed)
        ended = refused(lambda: answer(impl, package, seed))
        refused(lambda: impl.apply(impl.load(package), module))
        left = sorted(path.name for path in temporary.iterdir())
        _kernels.want(kernels.write(tmp_path / "late"), seed)
        return ended, left, module(*kernels.call(seed).args).tolist()

    found, left, late = in_child(load, temporary)

    assert found["words"] is not None
    assert found["mapped"] == left == []
    wanted = _kernels.want(tmp_path / "late", seed)
    assert_near(torch.tensor(late), torch.tensor(wanted))


@clause("KRN-05")
def test_another_revision_of_a_kernel_is_refused(
    impl: Any, package: Path, temporary: Path, tmp_path: Path, seed: int
) -> None:
    put(tmp_path / "kernel", scale=1.5)

    found = in_child(lambda: refused(lambda: answer(impl, package, seed)), temporary)

    assert found["words"] is not None
    assert kernels.REPOSITORY in found["words"]
    assert (found["mapped"], found["ran"]) == ([], 0)


@clause("KRN-06")
def test_a_loaded_kernel_is_held_to_its_revision_too(
    impl: Any, package: Path, temporary: Path, tmp_path: Path, seed: int
) -> None:
    other = kernels.write(tmp_path / "kernel", scale=1.5)

    def load() -> Any:
        impl.use_kernel(kernels.REPOSITORY, folder=other)
        return refused(lambda: answer(impl, package, seed))

    found = in_child(load, temporary)

    assert found["words"] is not None
    assert kernels.REPOSITORY in found["words"]
    assert (found["mapped"], found["ran"]) == ([], 0)


@clause("KRN-07")
def test_a_process_has_one_revision_of_a_kernel(
    impl: Kernels, tmp_path: Path, seed: int
) -> None:
    first = kernels.write(tmp_path / "first")
    impl.use_kernel(kernels.REPOSITORY, folder=first)
    module = blocks.seeded(kernels.Attending, seed)
    before = module(*kernels.call(seed).args)

    with refuses():
        impl.use_kernel(
            kernels.REPOSITORY, folder=kernels.write(tmp_path / "second", scale=1.5)
        )

    assert torch.equal(module(*kernels.call(seed).args), before)


@clause("KRN-08")
def test_a_locked_revision_is_held_to(
    impl: Any, tmp_path: Path, temporary: Path
) -> None:
    wanted = impl.kernel_revision(kernels.write(tmp_path / "wanted"))
    other = kernels.write(tmp_path / "other", scale=1.5)

    def load(folder: Path) -> Any:
        impl.use_kernel(kernels.REPOSITORY, folder=folder, revision=wanted)
        return hasattr(getattr(torch.ops, kernels.NAMESPACE), "attend")

    assert in_child(lambda: load(tmp_path / "wanted"), temporary)
    with refuses():
        load(other)
    assert not hasattr(getattr(torch.ops, kernels.NAMESPACE), "attend")


@clause("KRN-09")
@pytest.mark.parametrize(
    ("trust", "pinned"),
    [((), True), (("tiny-kernel",), True), (("tiny-kernels",), False)],
)
def test_a_kernel_from_the_hub_needs_trust_and_a_commit(
    impl: Kernels, hub: Hub, trust: tuple[str, ...], *, pinned: bool
) -> None:
    commit = hub.make(kernels.REPOSITORY, "kernels").commit(kernels.files())
    revision = commit if pinned else "main"

    with asks_for_no_file(hub), refuses():
        impl.use_kernel(kernels.REPOSITORY, revision=revision, trust=trust)

    assert not hasattr(getattr(torch.ops, kernels.NAMESPACE), "attend")


@clause("KRN-09")
@pytest.mark.parametrize("trust", ["tiny-kernels", kernels.REPOSITORY])
def test_a_kernel_from_the_hub_is_of_its_commit(
    impl: Kernels, hub: Hub, trust: str, seed: int
) -> None:
    repository = hub.make(kernels.REPOSITORY, "kernels")
    commit = repository.commit(kernels.files())
    repository.commit(kernels.files(scale=1.5))

    impl.use_kernel(kernels.REPOSITORY, revision=commit, trust=[trust])

    assert {served.commit for served in hub.served} == {commit}
    blocks.seeded(kernels.Attending, seed)(*kernels.call(seed).args)
    assert kernels.calls() == 1


@clause("KRN-10")
@pytest.mark.usefixtures("cache")  # for its headers: nothing is taken from it
def test_a_package_keeps_no_folder_of_a_kernel(impl: Any, tmp_path: Path) -> None:
    kernel = kernels.write(tmp_path / "kernel-of-the-build")

    def prepare() -> None:
        impl.use_kernel(kernels.REPOSITORY, folder=kernel)

    def make() -> tuple[Any, Any]:
        return blocks.seeded(kernels.Attending), kernels.call()

    made = compiled_anew(impl, tmp_path / "anew", make, prepare)

    held = b"".join(files_of(made).values())
    assert os.fsencode(kernel) not in held
    assert kernels.MARK not in held


@clause("KRN-11")
def test_an_operator_of_no_kernel_is_named(
    impl: Any, cache: PackageCache, temporary: Path, tmp_path: Path, seed: int
) -> None:
    package = _kernels.saved(
        impl, cache, kernels.Halving, tmp_path, seed, kernels.register_loose
    )

    def load() -> Any:
        module = blocks.seeded(kernels.Halving, seed)
        impl.apply(impl.load(package), module)
        return module(*kernels.call().args)

    found = in_child(lambda: refused(load), temporary)

    assert found["words"] is not None
    assert kernels.LOOSE in found["words"]
    assert found["mapped"] == []


@clause("KRN-13")
def test_a_kernel_without_a_build_for_the_machine_is_named(
    impl: Kernels, tmp_path: Path
) -> None:
    folder = kernels.write(
        tmp_path / "kernel", build="build/torch99-cxx11-cu999-x86_64-linux"
    )

    with refuses() as refusal:
        impl.use_kernel(kernels.REPOSITORY, folder=folder)

    assert kernels.REPOSITORY in str(refusal)


@clause("KRN-14")
def test_trust_in_a_package_is_none_in_its_kernels(
    impl: Any,
    cache: PackageCache,
    hub: Hub,
    temporary: Path,
    tmp_path: Path,
    seed: int,
) -> None:
    commit = hub.make(kernels.REPOSITORY, "kernels").commit(kernels.files())

    def publish() -> Any:
        impl.use_kernel(kernels.REPOSITORY, revision=commit, trust=["tiny-kernels"])
        module = blocks.seeded(kernels.AttendingFromHub)
        made = cache.compiled(module, kernels.call())
        return impl.publish(made, _hubs.REPOSITORY)

    revision = in_child(publish, temporary)
    _hubs.connect(hub.url, tmp_path / "another")
    hub.served.clear()

    with refuses() as refusal:
        impl.fetch(_hubs.REPOSITORY, revision=revision, trust=["acme"])

    assert kernels.REPOSITORY in str(refusal)
    assert [s.path for s in hub.served if not s.path.endswith((".json", ".md"))] == []
    both = ["acme", kernels.REPOSITORY]
    compiled = impl.fetch(_hubs.REPOSITORY, revision=revision, trust=both)
    hub.close()
    module = blocks.seeded(kernels.AttendingFromHub, seed)
    twin = applied_copy(impl, compiled, module)
    assert_agrees(Pair(module, twin), kernels.call(seed))
