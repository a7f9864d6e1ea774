"""The files of kernels: where the library `kernels` has them, and what vouches for it.

The library takes neither a token nor a cache, and leaves compiled Python beside the
code that it loads, where others may have put theirs.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from aoti_ref._files import Folder
from aoti_ref._kernel_errors import UnusableKernel
from aoti_ref._locks import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import ModuleType

_OVERRIDES = "LOCAL_KERNELS"  # of the library: "publisher/name=folder:..."
_client_of = "_get_hf_api"  # the library's, which makes its client

_exchanging = Lock()


class Client(NamedTuple):
    """How the client of the Hub is to fetch.

    Args:
        cache_dir: Instead of its own cache.
        token: As it takes it.
    """

    cache_dir: str | os.PathLike[str] | None = None
    token: str | bool | None = None


def variant(repo_id: str, folder: Path) -> Path:
    """Find the build for this machine in a local repository."""
    _library(repo_id)
    resolver: Any = importlib.import_module("kernels.resolver")
    try:
        place: Path = resolver.resolve_local_kernel(folder, backend=None).variant_path
    except Exception as error:
        raise UnusableKernel(repo_id, _words(error)) from error
    return place


def installed(
    repo_id: str, revision: str, client: Client | None = None, *, cached: bool = False
) -> Path:
    """Find the build for this machine in the cache, after a download if need be."""
    library = _library(repo_id)
    try:
        with _through(client or Client()):
            place: Path = library.install_kernel(
                repo_id,
                revision=revision,
                local_files_only=cached,
                trust_remote_code=[repo_id],  # the caller has asked for it
            )
    except Exception as error:
        raise UnusableKernel(repo_id, _words(error)) from error
    return place


def run(repo_id: str, place: Path) -> ModuleType:
    """Load a build, and no compiled Python that lies beside its code.

    Whoever can write there could leave some that runs in the place of the code which
    the digest vouches for. Call this in one thread at a time.
    """
    library = _library(repo_id)
    before = sys.pycache_prefix
    with Folder() as private:
        sys.pycache_prefix = str(private)
        try:
            module: ModuleType = library.get_local_kernel(place)
        except Exception as error:
            raise UnusableKernel(repo_id, _words(error)) from error
        finally:
            sys.pycache_prefix = before
    return module


def digest(repo_id: str, place: Path) -> str:
    """Digest the files of a build, but what Python leaves beside them.

    Raises:
        UnusableKernel: It has a link to a folder, whose files would not count.
    """
    found = hashlib.sha256()
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place)
        if path.is_symlink() and path.is_dir():
            reason = f"{name.as_posix()} is a link to a folder"
            raise UnusableKernel(repo_id, reason)
        if path.is_file() and "__pycache__" not in name.parts:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found.update(f"{name.as_posix()} {content}\n".encode())
    return f"sha256:{found.hexdigest()}"


def overrides() -> Mapping[str, str]:
    """Give the folders that the user has put in the place of repositories."""
    entries = os.environ.get(_OVERRIDES, "").split(":")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


@contextmanager
def _through(client: Client) -> Iterator[None]:
    """Have the library fetch with our caller's cache and token, and nobody else's."""
    with _exchanging:
        if client == Client():
            yield
            return
        install: Any = importlib.import_module("kernels.install")
        before = getattr(install, _client_of)
        setattr(install, _client_of, lambda **_agent: _api(client))
        try:
            yield
        finally:
            setattr(install, _client_of, before)


def _api(client: Client) -> Any:
    """Make a client of the Hub that fetches as `client` says."""
    hub: Any = importlib.import_module("huggingface_hub")
    own = {"cache_dir": client.cache_dir} if client.cache_dir else {}

    class Api(hub.HfApi):  # type: ignore[misc]
        def snapshot_download(self, *args: Any, **kwargs: Any) -> Any:
            return super().snapshot_download(*args, **kwargs | own)

        def hf_hub_download(self, *args: Any, **kwargs: Any) -> Any:
            return super().hf_hub_download(*args, **kwargs | own)

    return Api(token=client.token)


def _library(repo_id: str) -> Any:
    try:
        return importlib.import_module("kernels")
    except ImportError as error:
        reason = "the library `kernels` is missing (pip install kernels)"
        raise UnusableKernel(repo_id, reason) from error


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
