"""The client of the Hub, huggingface_hub, and what it says when it cannot serve."""

from __future__ import annotations

import errno
import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aoti_ref._hub_errors import (
    GatedRepository,
    NoSuchRepository,
    NoSuchRevision,
    NotCached,
    TransferFailed,
    UnusableCache,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def client(part: str = "") -> Any:
    """Import the client, or a part of it, which it does not always do by itself."""
    try:
        return importlib.import_module(f"huggingface_hub{part}")
    except ImportError as error:
        message = "the Hub needs huggingface_hub: pip install 'aoti-conformance[hub]'"
        raise ImportError(message) from error


def constants() -> Any:
    """Give the module of its constants, which it reads from variables once."""
    return client(".constants")


def cache(cache_dir: str | os.PathLike[str] | None) -> str:
    """Name the cache that is used: `cache_dir`, or its own."""
    return str(cache_dir or constants().HF_HUB_CACHE)


@contextmanager
def told(
    repo_id: str,
    revision: str,
    what: str,
    cache_dir: str | os.PathLike[str] | None,
    *,
    local: bool = False,
) -> Iterator[None]:
    """Say in words of our own what the client says."""
    errors, endpoint = client(".errors"), constants().ENDPOINT
    offline = local or constants().HF_HUB_OFFLINE
    transport = errors.HfHubHTTPError.__bases__[0]  # of the library underneath
    try:
        yield
    except errors.GatedRepoError as error:
        raise GatedRepository(repo_id, endpoint) from error
    except errors.RepositoryNotFoundError as error:
        raise NoSuchRepository(repo_id, endpoint) from error
    except errors.RevisionNotFoundError as error:
        raise NoSuchRevision(repo_id, revision) from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        if offline and what == "pushed":
            raise TransferFailed(repo_id, what, "HF_HUB_OFFLINE is set") from error
        if offline:
            raise NotCached(repo_id, revision, cache(cache_dir)) from error
        cause = error.__cause__ or error  # why the Hub could not be reached
        raise TransferFailed(repo_id, what, _reason(cause)) from error
    except errors.EntryNotFoundError as error:
        raise TransferFailed(repo_id, what, _reason(error)) from error
    except (OSError, transport) as error:
        if getattr(error, "errno", None) in (*_FULL, *_CLOSED):
            reason = error.strerror or str(error)
            raise UnusableCache(cache(cache_dir), reason) from error
        raise TransferFailed(repo_id, what, _reason(error)) from error


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:4])}"
