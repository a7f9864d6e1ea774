"""Attention kernels: load them before capture, and again before the first run.

A kernel is a repository that the library `kernels` lays out and loads. Its operators
have names of their own in every build, and compiled code calls them by name: so a
package records which kernels its operators are from, down to a digest of their files,
and gets these and no others.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aoti_ref import _hub_client, _internals, _kernel_files, _trust
from aoti_ref._errors import Fault
from aoti_ref._hub_errors import NotCached
from aoti_ref._kernel_errors import (
    MissingOperators,
    OtherKernel,
    UntrustedKernel,
    UnusableKernel,
)
from aoti_ref._locks import Lock

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    from aoti_ref._kernel_files import Client

_used: list[Kernel] = []
_fetched: dict[tuple[str, str], Path] = {}  # by repository and commit
_loading = Lock()


class Kernel(NamedTuple):
    """A kernel that a process has loaded, or that a package needs.

    Args:
        repo_id: Its repository.
        revision: A commit of it; for a folder that is nobody's commit, its digest.
        digest: Of the files of its build for this machine; empty if nobody knows.
        ops: The operators that it registers.
    """

    repo_id: str
    revision: str
    digest: str
    ops: tuple[str, ...]

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Kernel:
        """Make one of what a manifest says."""
        said = found["repo"], found["revision"], found["digest"]
        return cls(*said, tuple(found["ops"]))

    def told(self) -> dict[str, Any]:
        """Say what it is, in a manifest's words."""
        said = {"repo": self.repo_id, "revision": self.revision}
        return {**said, "digest": self.digest, "ops": list(self.ops)}


def use_kernel(
    repo_id: str,
    *,
    revision: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    trust: str | Iterable[str] = (),
) -> ModuleType:
    """Load a kernel, for what is captured, exported and compiled afterwards.

    Look up its functions on what this returns before the capture: a lookup inside
    of a model would be traced.

    Args:
        repo_id: Its repository, as `publisher/name`.
        revision: A full commit hash; or, of a folder, the digest that it must have.
        folder: A local copy of the repository, instead of the Hub. Without it the
            one that the library's variable LOCAL_KERNELS names for `repo_id`.
        trust: Repositories and publishers whose code may be downloaded, by their
            whole names. A folder needs none.

    Returns:
        The kernel's module.

    Raises:
        Untrusted, UnpinnedRevision: As `load_from_hub` says; nothing is downloaded.
        OtherKernel: The folder is of another revision, or cannot be seen to be of
            this one, as with a commit; or another revision is loaded already. Its
            code does not run.
        UnusableKernel: It has no build for this machine, has links to folders, or
            fails to load.
    """
    if folder is not None:
        place = _kernel_files.variant(repo_id, Path(folder))
        with _loading:
            return _load(repo_id, place, wanted=revision)
    local = _kernel_files.overrides().get(repo_id)
    if local is not None:
        place = _kernel_files.variant(repo_id, Path(local))
        # The variable takes the place of a commit; a digest still holds.
        wanted = None if _trust.is_commit(revision) else revision
        with _loading:
            return _load(repo_id, place, wanted=wanted)
    pinned = _trust.require(repo_id, revision, trust)
    _trust.grant(repo_id)
    place = _kernel_files.installed(repo_id, pinned)
    with _loading:
        return _load(repo_id, place, revision=pinned)


def kernel_revision(folder: str | os.PathLike[str]) -> str:
    """Give the revision of a kernel in a folder: a digest of its build for here.

    `use_kernel` takes it, to lock what is in the folder.

    Raises:
        UnusableKernel: It has no build for this machine, or has links to folders,
            for which no digest can vouch.
    """
    name = str(folder)
    return _kernel_files.digest(name, _kernel_files.variant(name, Path(folder)))


def download(kernel: Kernel, client: Client, *, local: bool) -> None:
    """Fetch a kernel into the cache, and load nothing.

    Args:
        kernel: What to fetch. Trust was asked for it, and is granted from now on.
        client: Whose cache, and which token.
        local: Whether the Hub is not to be asked.

    Raises:
        NotCached: The Hub is not to be asked, and the cache has no such kernel.
        UnusableKernel: It has no build for this machine, or cannot be fetched.
    """
    repo_id, commit = kernel.repo_id, kernel.revision
    if not _trust.is_commit(commit) or repo_id in _kernel_files.overrides():
        return
    _trust.grant(repo_id)
    try:
        place = _kernel_files.installed(repo_id, commit, client, cached=True)
        # What a download has left that broke off is no kernel.
        whole = local or _kernel_files.digest(repo_id, place) == kernel.digest
    except UnusableKernel as error:
        if local:
            raise NotCached(
                repo_id, commit, _hub_client.cache(client.cache_dir)
            ) from error
        whole = False
    if not whole:
        place = _kernel_files.installed(repo_id, commit, client)
    _fetched[repo_id, commit] = place


def behind(ops: Iterable[str]) -> list[Kernel]:
    """Find the kernels in this process that operators are from."""
    wanted = set(ops)
    return [kernel for kernel in _present(wanted) if wanted & {*kernel.ops}]


def recorded(ops: Iterable[str], others: Iterable[Mapping[str, Any]]) -> list[Kernel]:
    """List the kernels that a package needs.

    Args:
        ops: The operators in the graph that are not torch's own.
        others: Kernels that somebody else has loaded, each with a `repo` and a
            `revision`; operators that are of no known kernel are theirs.
    """
    found = behind(ops)
    known = {op for kernel in found for op in kernel.ops}
    rest = tuple(op for op in ops if op not in known)
    names = {kernel.repo_id for kernel in found}
    others = [kernel for kernel in others if kernel["repo"] not in names]
    return [*found, *(Kernel(k["repo"], k["revision"], "", rest) for k in others)]


def provide(module: str, ops: Iterable[str], kernels: Iterable[Kernel]) -> None:
    """Load what a graph calls, or refuse, before native code is loaded.

    Nothing is downloaded: a kernel is looked for in LOCAL_KERNELS and in the cache,
    where it may be for somebody else: this process must have been told to trust it.

    Args:
        module: The module's class, for messages.
        ops: The operators that the graph calls.
        kernels: Those that they are from.

    Raises:
        OtherKernel: One of them is here, in another revision.
        UntrustedKernel: It is in the cache, and nobody has said to trust it.
        MissingOperators: Nothing here registers them.
        UnusableKernel: It fails to load.
    """
    ops, kernels = list(ops), list(kernels)
    if not ops:
        return
    with _loading:
        for kernel in kernels:
            if not kernel.digest and all(map(_internals.is_registered, kernel.ops)):
                continue  # somebody else has loaded it
            found = next(iter(behind(kernel.ops)), None)
            revision, digest = kernel.revision, kernel.digest or None
            if found is None and (place := _place(kernel)):
                _load(kernel.repo_id, place, revision=revision, wanted=digest)
            elif found and digest and found.digest != digest:
                # Equal commits with other files: only digests tell them apart.
                sides = (revision, found.revision)
                if revision == found.revision:
                    sides = (digest, found.digest)
                raise OtherKernel(kernel.repo_id, *sides)
    origin = {op: f"of {k.repo_id} at {k.revision}" for k in kernels for op in k.ops}
    missing = tuple(
        Fault("operator", op, origin.get(op, "of no kernel that is known"))
        for op in ops
        if not _internals.is_registered(op)
    )
    if missing:
        raise MissingOperators(module, missing)


def _load(
    repo_id: str, place: Path, *, revision: str | None = None, wanted: str | None = None
) -> ModuleType:
    """Load the build in `place`, if it is what is wanted, and what is loaded."""
    digest = _kernel_files.digest(repo_id, place)
    known = [kernel.digest for kernel in _used if kernel.repo_id == repo_id]
    for other in (wanted, *known):
        if other not in (None, digest):
            raise OtherKernel(repo_id, other, digest)
    before = _internals.operators()
    module = _kernel_files.run(repo_id, place)
    if not known:
        ops = tuple(sorted(_internals.operators() - before))
        _used.append(Kernel(repo_id, revision or digest, digest, ops))
    return module


def _present(wanted: set[str]) -> list[Kernel]:
    """List our kernels, and those that others have loaded and are `wanted`."""
    library: Any = sys.modules.get("kernels")
    found = list(_used)
    ours = {op.partition("::")[0] for kernel in _used for op in kernel.ops}
    for loaded in library.get_loaded_kernels() if library else ():
        namespace, origin = loaded.metadata.id, loaded.repo_info
        ops = [o for o in _internals.operators() if o.startswith(f"{namespace}::")]
        if namespace in ours or not wanted & {*ops}:
            continue
        name = origin.repo_id if origin else namespace
        digest = _kernel_files.digest(name, Path(loaded.module.__file__).parent)
        pinned = origin is not None and _trust.is_commit(origin.revision)
        revision = origin.revision if pinned else digest
        found.append(Kernel(name, revision, digest, tuple(sorted(ops))))
    return found


def _place(kernel: Kernel) -> Path | None:
    """Find a kernel on this machine: where its user put it, or in the cache.

    Raises:
        UntrustedKernel: It is in the cache, and nobody has said to trust it.
    """
    repo_id, commit = kernel.repo_id, kernel.revision
    local = _kernel_files.overrides().get(repo_id)
    if local is not None:
        return _kernel_files.variant(repo_id, Path(local))
    if not _trust.is_commit(commit):
        return None
    place = _fetched.get((repo_id, commit))
    if place is None:
        try:
            place = _kernel_files.installed(repo_id, commit, cached=True)
        except UnusableKernel:
            return None
    if not _trust.is_granted(repo_id):
        raise UntrustedKernel(repo_id, commit)
    return place
