"""What can go wrong between a package, a kernel and the Hub, and who says so.

    AotiError
    ├── Untrusted               fetch: trust= names neither repository nor publisher
    ├── UnpinnedRevision        fetch: the revision can be moved to other code
    ├── NoSuchRepository        fetch, push: it is missing, or closed to this token
    ├── NoSuchRevision          fetch, push: the repository has no such commit
    ├── GatedRepository         fetch: its owner has to admit the reader
    ├── NoSuchVariant           fetch: no package for this machine, or too many
    ├── NotCached               fetch: offline, and not in the cache
    ├── TransferFailed          fetch, push: the Hub, or the way to it, broke off
    ├── UnusableCache           fetch: the cache is full, or cannot be written to
    ├── UnusableKernel          use_kernel: it cannot be found, or loaded
    ├── OtherKernel             use_kernel, apply, call: a kernel of another revision
    └── MissingOperators        apply, call: nothing here registers them

They pickle, as all errors of the reference do.
"""

from __future__ import annotations

from aoti_ref._errors import AotiError, Fault, table


class Untrusted(AotiError):
    """A repository holds native code, and the caller has not said to trust it.

    >>> print(Untrusted("someone/flux", ("zerogpu-aoti",)))
    someone/flux holds code that would run here, and trust= does not name it
    trust= names: zerogpu-aoti. Nothing was downloaded.
    Look at it first; then name 'someone/flux', or its publisher 'someone'.
    """

    def __init__(self, repo_id: str, trust: tuple[str, ...]) -> None:
        super().__init__(repo_id, trust)
        self.repo_id = repo_id
        self.trust = trust

    def __str__(self) -> str:
        publisher = self.repo_id.partition("/")[0]
        return (
            f"{self.repo_id} holds code that would run here, "
            "and trust= does not name it\n"
            f"trust= names: {', '.join(self.trust) or 'nobody'}. "
            "Nothing was downloaded.\n"
            f"Look at it first; then name {self.repo_id!r}, "
            f"or its publisher {publisher!r}."
        )


class UnpinnedRevision(AotiError):
    """A revision is not a full commit hash, so it can be moved to other code.

    >>> print(UnpinnedRevision("zerogpu-aoti/flux", "main"))
    zerogpu-aoti/flux: the revision must be a full commit hash, found 'main'
    Branches and tags move. Nothing was downloaded; the hash is on the page of commits.
    """

    def __init__(self, repo_id: str, revision: str | None) -> None:
        super().__init__(repo_id, revision)
        self.repo_id = repo_id
        self.revision = revision

    def __str__(self) -> str:
        return (
            f"{self.repo_id}: the revision must be a full commit hash, "
            f"found {self.revision!r}\n"
            "Branches and tags move. Nothing was downloaded; "
            "the hash is on the page of commits."
        )


class NoSuchRepository(AotiError):
    """The Hub has no such repository, or does not show it to this token.

    >>> print(NoSuchRepository("zerogpu-aoti/fluks", "https://huggingface.co"))
    https://huggingface.co has no repository zerogpu-aoti/fluks
    If it is private, log in with a token that may read it.
    """

    def __init__(self, repo_id: str, endpoint: str) -> None:
        super().__init__(repo_id, endpoint)
        self.repo_id = repo_id
        self.endpoint = endpoint

    def __str__(self) -> str:
        return (
            f"{self.endpoint} has no repository {self.repo_id}\n"
            "If it is private, log in with a token that may read it."
        )


class NoSuchRevision(AotiError):
    """The repository has no such commit or branch.

    >>> print(NoSuchRevision("zerogpu-aoti/flux", "0f3d"))
    zerogpu-aoti/flux has no revision 0f3d
    Was its history rewritten? Look at its commits, and pin another one.
    """

    def __init__(self, repo_id: str, revision: str) -> None:
        super().__init__(repo_id, revision)
        self.repo_id = repo_id
        self.revision = revision

    def __str__(self) -> str:
        return (
            f"{self.repo_id} has no revision {self.revision}\n"
            "Was its history rewritten? Look at its commits, and pin another one."
        )


class GatedRepository(AotiError):
    """The owner of the repository has to admit who reads it.

    >>> print(GatedRepository("acme/flux", "https://huggingface.co"))
    acme/flux is gated, and this token is not admitted
    Ask for access at https://huggingface.co/acme/flux, and log in.
    """

    def __init__(self, repo_id: str, endpoint: str) -> None:
        super().__init__(repo_id, endpoint)
        self.repo_id = repo_id
        self.endpoint = endpoint

    def __str__(self) -> str:
        return (
            f"{self.repo_id} is gated, and this token is not admitted\n"
            f"Ask for access at {self.endpoint}/{self.repo_id}, and log in."
        )


class NoSuchVariant(AotiError):
    """No package of a repository is for this machine, or several are.

    >>> print(NoSuchVariant("a/flux", "0f3d", "torch 2.13 on x86_64", (), ("t2.11",)))
    a/flux at 0f3d has no package for torch 2.13 on x86_64
    It has: t2.11
    >>> print(NoSuchVariant("a/flux", "0f3d", "torch 2.13", ("c", "d"), ("c", "d")))
    a/flux at 0f3d has several packages for torch 2.13: c, d
    Say which one: variant='c'
    """

    def __init__(
        self,
        repo_id: str,
        revision: str,
        wanted: str,
        fitting: tuple[str, ...],
        present: tuple[str, ...],
    ) -> None:
        super().__init__(repo_id, revision, wanted, fitting, present)
        self.repo_id = repo_id
        self.revision = revision
        self.wanted = wanted
        self.fitting = fitting
        self.present = present

    def __str__(self) -> str:
        head = f"{self.repo_id} at {self.revision} has"
        if self.fitting:
            names = ", ".join(self.fitting)
            hint = f"Say which one: variant={self.fitting[0]!r}"
            return f"{head} several packages for {self.wanted}: {names}\n{hint}"
        names = ", ".join(self.present) or "none at all"
        return f"{head} no package for {self.wanted}\nIt has: {names}"


class NotCached(AotiError):
    """The Hub was not to be asked, and the cache does not have it.

    >>> print(NotCached("acme/flux", "0f3d", "/root/hub"))
    acme/flux at 0f3d is not in the cache /root/hub, and the Hub was not asked
    Fetch it once without HF_HUB_OFFLINE and local_files_only.
    """

    def __init__(self, repo_id: str, revision: str, folder: str) -> None:
        super().__init__(repo_id, revision, folder)
        self.repo_id = repo_id
        self.revision = revision
        self.folder = folder

    def __str__(self) -> str:
        return (
            f"{self.repo_id} at {self.revision} is not in the cache {self.folder}, "
            "and the Hub was not asked\n"
            "Fetch it once without HF_HUB_OFFLINE and local_files_only."
        )


class TransferFailed(AotiError):
    """The Hub, or the way to it, broke off; what was there before is as it was.

    >>> print(TransferFailed("acme/flux", "fetched", "RemoteProtocolError: closed"))
    acme/flux could not be fetched: RemoteProtocolError: closed
    Nothing was changed; try again.
    """

    def __init__(self, repo_id: str, what: str, reason: str) -> None:
        super().__init__(repo_id, what, reason)
        self.repo_id = repo_id
        self.what = what
        self.reason = reason

    def __str__(self) -> str:
        head = f"{self.repo_id} could not be {self.what}: {self.reason}"
        return f"{head}\nNothing was changed; try again."


class UnusableCache(AotiError):
    """The cache of the Hub's client has no room, or cannot be written to.

    >>> print(UnusableCache("/root/hub", "No space left on device"))
    the cache /root/hub cannot hold what is fetched: No space left on device
    Make room, or set HF_HUB_CACHE to a folder that can be written to.
    """

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(folder, reason)
        self.folder = folder
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"the cache {self.folder} cannot hold what is fetched: {self.reason}\n"
            "Make room, or set HF_HUB_CACHE to a folder that can be written to."
        )


class UnusableKernel(AotiError):
    """A kernel cannot be found for this machine, or loaded.

    >>> print(UnusableKernel("acme/attention", "the library `kernels` is missing"))
    the kernel acme/attention cannot be used: the library `kernels` is missing
    """

    def __init__(self, repo_id: str, reason: str) -> None:
        super().__init__(repo_id, reason)
        self.repo_id = repo_id
        self.reason = reason

    def __str__(self) -> str:
        return f"the kernel {self.repo_id} cannot be used: {self.reason}"


class OtherKernel(AotiError):
    """A kernel is there, and it is not the one that is wanted.

    >>> print(OtherKernel("acme/attention", "sha256:0f", "sha256:1e"))
    the kernel acme/attention must be of revision sha256:0f, found sha256:1e
    Take that revision, or compile again with this one.
    """

    def __init__(self, repo_id: str, wanted: str, found: str) -> None:
        super().__init__(repo_id, wanted, found)
        self.repo_id = repo_id
        self.wanted = wanted
        self.found = found

    def __str__(self) -> str:
        return (
            f"the kernel {self.repo_id} must be of revision {self.wanted}, "
            f"found {self.found}\n"
            "Take that revision, or compile again with this one."
        )


class MissingOperators(AotiError):
    """A graph calls operators that nothing has registered in this process.

    >>> print(MissingOperators("Block", (
    ...     Fault("operator", "acme_attention::attend", "of acme/attention at 0f3d"),
    ... )))
    Block: its graph calls what is not registered here
      operator  acme_attention::attend  of acme/attention at 0f3d
    Load them first: aoti_ref.use_kernel, LOCAL_KERNELS, or an import of their library.
    """

    def __init__(self, module: str, faults: tuple[Fault, ...]) -> None:
        super().__init__(module, faults)
        self.module = module
        self.faults = faults

    def __str__(self) -> str:
        return (
            f"{self.module}: its graph calls what is not registered here\n"
            f"{table(self.faults)}\n"
            "Load them first: aoti_ref.use_kernel, LOCAL_KERNELS, "
            "or an import of their library."
        )
