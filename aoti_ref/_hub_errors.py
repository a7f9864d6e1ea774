"""What can go wrong between a package and the Hub, and who says so.

    AotiError
    ├── Untrusted               fetch: trust= names neither repository nor publisher
    ├── UnpinnedRevision        fetch: the revision can be moved to other code
    ├── NoSuchRepository        fetch, push: it is missing, or closed to this token
    ├── NoSuchRevision          fetch, push: the repository has no such commit
    ├── GatedRepository         fetch: its owner has to admit the reader
    ├── NoSuchVariant           fetch: no package for this machine, or too many
    ├── NotCached               fetch: offline, and not in the cache
    ├── TransferFailed          fetch, push: the Hub, or the way to it, broke off
    └── UnusableCache           fetch, push: the cache is full, or cannot be written to

Those of kernels are in _kernel_errors.py. They pickle, as all errors of the reference
do.
"""

from __future__ import annotations

from aoti_ref._errors import AotiError


class Untrusted(AotiError):
    """A repository holds native code, and the caller has not said to trust it.

    >>> print(Untrusted("someone/flux", ("zerogpu-aoti",)))
    someone/flux holds code that would run here, and trust= does not name it
    trust= names: zerogpu-aoti. Nothing of it was downloaded.
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
            "Nothing of it was downloaded.\n"
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
    >>> print(NoSuchVariant("a/flux", "0f3d", "torch 2.13", (), (), ("c", "d")))
    a/flux at 0f3d has no package for torch 2.13
    It has: none at all
    Of formats that this release of aoti_ref does not read: c, d
    """

    def __init__(
        self,
        repo_id: str,
        revision: str,
        wanted: str,
        fitting: tuple[str, ...],
        present: tuple[str, ...],
        foreign: tuple[str, ...] = (),
    ) -> None:
        super().__init__(repo_id, revision, wanted, fitting, present, foreign)
        self.repo_id = repo_id
        self.revision = revision
        self.wanted = wanted
        self.fitting = fitting
        self.present = present
        self.foreign = foreign

    def __str__(self) -> str:
        head = f"{self.repo_id} at {self.revision} has"
        if self.fitting:
            names = ", ".join(self.fitting)
            hint = f"Say which one: variant={self.fitting[0]!r}"
            return f"{head} several packages for {self.wanted}: {names}\n{hint}"
        names = ", ".join(self.present) or "none at all"
        lines = [f"{head} no package for {self.wanted}", f"It has: {names}"]
        if self.foreign:
            others = ", ".join(self.foreign)
            unread = "Of formats that this release of aoti_ref does not read"
            lines.append(f"{unread}: {others}")
        return "\n".join(lines)


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
    """The Hub, or the way to it, broke off; all files that were there are as they were.

    >>> print(TransferFailed("acme/flux", "fetched", "RemoteProtocolError: closed"))
    acme/flux could not be fetched: RemoteProtocolError: closed
    Nothing was changed; try again.
    >>> print(TransferFailed("acme/flux", "pushed", "HfHubHTTPError: 403 Forbidden"))
    acme/flux could not be pushed: HfHubHTTPError: 403 Forbidden
    No file was changed; a repository that was made for it stays, and is empty.
    """

    def __init__(self, repo_id: str, what: str, reason: str) -> None:
        super().__init__(repo_id, what, reason)
        self.repo_id = repo_id
        self.what = what
        self.reason = reason

    def __str__(self) -> str:
        head = f"{self.repo_id} could not be {self.what}: {self.reason}"
        if self.what == "pushed":
            made = "a repository that was made for it stays, and is empty"
            return f"{head}\nNo file was changed; {made}."
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
