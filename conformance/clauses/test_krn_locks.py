"""Chapter KRN: whose kernels run, and which code of theirs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from conformance.clauses import _kernels
from conformance.clauses._applied import unless_refused
from conformance.clauses._kernels import answer, refused
from conformance.clauses._threads import assert_near
from conformance.clauses._unpacking import in_child
from conformance.models import kernels
from conformance.spec import clause
from conformance.workbench import refuses

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter_hub import Kernels
    from conformance.cache import PackageCache
    from conformance.loopback import Hub


@clause("KRN-08")
def test_a_folder_that_is_of_no_commit_is_refused(
    impl: Kernels, tmp_path: Path
) -> None:
    folder = kernels.write(tmp_path / "kernel")

    with refuses() as refusal:
        impl.use_kernel(kernels.REPOSITORY, folder=folder, revision="0" * 40)

    assert kernels.REPOSITORY in str(refusal)
    assert not hasattr(getattr(torch.ops, kernels.NAMESPACE), "attend")


@clause("KRN-29")
def test_a_cached_kernel_is_not_a_trusted_one(
    impl: Any,
    cache: PackageCache,
    hub: Hub,
    temporary: Path,
    tmp_path: Path,
    seed: int,
) -> None:
    commit = hub.make(kernels.REPOSITORY, "kernels").commit(kernels.files())

    def use() -> None:
        impl.use_kernel(kernels.REPOSITORY, revision=commit, trust=["tiny-kernels"])

    module = kernels.AttendingFromHub
    package = _kernels.saved(impl, cache, module, tmp_path, seed, use)

    def untold() -> Any:
        ended = refused(lambda: answer(impl, package, seed))
        return ended, hasattr(getattr(torch.ops, kernels.NAMESPACE), "attend")

    def told() -> Any:
        use()
        return answer(impl, package, seed)

    found, registered = in_child(untold, temporary)
    value = in_child(told, temporary)

    assert found["words"] is not None
    assert kernels.REPOSITORY in found["words"]
    assert (found["mapped"], registered) == ([], False)
    wanted = _kernels.want(kernels.write(tmp_path / "eager"), seed)
    assert_near(torch.tensor(value), torch.tensor(wanted))


@clause("KRN-30")
def test_compiled_python_beside_a_locked_kernel_does_not_run(
    impl: Kernels, tmp_path: Path
) -> None:
    folder = kernels.write(tmp_path / "kernel")
    revision = impl.kernel_revision(folder)
    _kernels.plant(folder, tmp_path / "ran")

    unless_refused(
        lambda: impl.use_kernel(kernels.REPOSITORY, folder=folder, revision=revision)
    )

    assert not (tmp_path / "ran").exists()


@clause("KRN-30")
def test_other_code_behind_a_link_does_not_run(impl: Kernels, tmp_path: Path) -> None:
    folder = kernels.write(tmp_path / "kernel")
    more = tmp_path / "elsewhere" / "__init__.py"
    more.parent.mkdir()
    more.touch()
    (folder / kernels.BUILD / "more").symlink_to(more.parent)
    with (folder / kernels.BUILD / "__init__.py").open("a") as code:
        code.write("\nfrom . import more\n")

    revisions = unless_refused(lambda: impl.kernel_revision(folder))
    more.write_text(_kernels.touching(tmp_path / "ran"))
    use = partial(impl.use_kernel, kernels.REPOSITORY, folder=folder)
    for revision in revisions:
        unless_refused(partial(use, revision=revision))

    assert not (tmp_path / "ran").exists()
