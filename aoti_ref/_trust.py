"""Whose native code may be fetched, and of which commit: asked before any download."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aoti_ref._hub_errors import UnpinnedRevision, Untrusted

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMMIT = re.compile(r"[0-9a-f]{40}")


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
    names = (trust,) if isinstance(trust, str) else tuple(trust)
    if not {repo_id, repo_id.partition("/")[0]} & set(names):
        raise Untrusted(repo_id, names)
    if revision is None or not is_commit(revision):
        raise UnpinnedRevision(repo_id, revision)
    return revision
