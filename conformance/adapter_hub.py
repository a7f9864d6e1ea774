"""What an adapter offers that publishes packages, or uses kernels, of the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from conformance.adapter import Adapter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Hubs(Adapter, Protocol):
    """Capability `hub`; the client of the Hub is huggingface_hub.

    The suite sets the client's environment and its module of constants, so that it
    talks to a Hub on loopback.
    """

    def publish(
        self,
        compiled: Any,
        repo_id: str,
        *,
        variant: str = "",
        model: str = "",
        model_revision: str = "",
        figures: Mapping[str, str] | None = None,
    ) -> str:
        """Push `compiled` into a repository, and return the hash of the commit.

        Args:
            compiled: What `compile` or `compile_regions` returned.
            repo_id: The repository; it is made where there is none.
            variant: What tells it from others for the same machine.
            model: The model that it is for.
            model_revision: The revision of that model.
            figures: What was measured, each under its name.
        """

    def fetch(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        trust: Sequence[str] = (),
        variant: str = "",
    ) -> Any:
        """Fetch what was pushed, as something that `apply` takes.

        Where `fetch` and `apply` are one, `apply` may do the work and refuse.

        Args:
            repo_id: The repository.
            revision: The commit.
            trust: Repositories and publishers whose native code may run here.
            variant: Which of several for this machine.
        """

    def origin(self, compiled: Any) -> tuple[str, str]:
        """Give the repository and the commit that `compiled` was fetched from."""


class Kernels(Adapter, Protocol):
    """Capability `kernels`; the library of that name lays kernels out and loads them.

    `apply`, and the first call, find a kernel in the folder that the library's
    variable LOCAL_KERNELS names for it.
    """

    def use_kernel(
        self,
        repo_id: str,
        *,
        folder: Path | None = None,
        revision: str | None = None,
        trust: Sequence[str] = (),
    ) -> Any:
        """Load a kernel for what is captured, exported and compiled afterwards.

        Args:
            repo_id: Its repository on the Hub.
            folder: A local copy of the repository, instead of the Hub.
            revision: The commit of the repository; or the revision of the folder.
            trust: Repositories and publishers whose code may be downloaded.
        """

    def kernel_revision(self, folder: Path) -> str:
        """Give the revision of what is in a folder, as `use_kernel` takes it."""
