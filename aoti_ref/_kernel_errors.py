"""What can go wrong with kernels, and who says so.

    AotiError
    ├── Untrusted
    │   └── UntrustedKernel     apply, call: it is in the cache, for somebody else
    ├── UnusableKernel          use_kernel: it cannot be found, or loaded
    ├── OtherKernel             use_kernel, apply, call: a kernel of another revision
    └── MissingOperators        apply, call: nothing here registers them

They pickle, as all errors of the reference do.
"""

from __future__ import annotations

from aoti_ref._errors import AotiError, Fault, table
from aoti_ref._hub_errors import Untrusted


class UntrustedKernel(Untrusted):
    """A package needs a kernel that is in the cache, and nobody said to trust it here.

    >>> print(UntrustedKernel("acme/attention", "0f3d"))
    the kernel acme/attention at 0f3d holds code that nobody has said to trust here
    It is in the cache, and none of it was run. Look at it first; then name it in
    trust=, of aoti_ref.use_kernel or aoti_ref.load_from_hub, in this process.
    """

    def __init__(self, repo_id: str, revision: str) -> None:
        super().__init__(repo_id, ())
        self.args = repo_id, revision
        self.revision = revision

    def __str__(self) -> str:
        return (
            f"the kernel {self.repo_id} at {self.revision} holds code "
            "that nobody has said to trust here\n"
            "It is in the cache, and none of it was run. "
            "Look at it first; then name it in\n"
            "trust=, of aoti_ref.use_kernel or aoti_ref.load_from_hub, "
            "in this process."
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
