"""Whose native code may be fetched, and of which commit: asked before any download."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aoti_ref._hub_errors import UnpinnedRevision, Untrusted

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMMIT = re.compile(r"[0-9a-f]{40}")

_granted: set[str] = set()  # kernels, which packages name long after they were fetched


def names(trust: str | Iterable[str]) -> tuple[str, ...]:
    """Give the names that a caller trusts, also where they can be read only once."""
    return (trust,) if isinstance(trust, str) else tuple(trust)


def grant(repo_id: str) -> None:
    """Remember that the caller trusts a kernel, in this process and those it forks."""
    _granted.add(repo_id)


def is_granted(repo_id: str) -> bool:
    """Whether a caller has said in this process to trust a kernel."""
    return repo_id in _granted


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a full commit hash, which no push can move.

    >>> is_commit("main"), is_commit("91c54ad1727ee830252e457677f467be0bfd8a57")
    (False, True)
    """
    return _COMMIT.fullmatch(revision or "") is not None


def require(repo_id: str, revision: str | None, trust: str | Iterable[str]) -> str:
    """Hold a fetch to what the caller said; ask nobody.

    Args:
        repo_id: What is to be fetched.
        revision: The commit that is to be fetched.
        trust: Repositories and publishers, by their whole names.

    Returns:
        The commit.

    Raises:
        Untrusted: `trust` names neither the repository nor its publisher.
        UnpinnedRevision: It is no full commit hash.
    """
    trusted = names(trust)
    if not {repo_id, repo_id.partition("/")[0]} & {*trusted}:
        raise Untrusted(repo_id, trusted)
    if revision is None or not is_commit(revision):
        raise UnpinnedRevision(repo_id, revision)
    return revision
