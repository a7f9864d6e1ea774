"""Ways to break what goes to the Hub, and what comes from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import huggingface_hub
from huggingface_hub import constants

from conformance.adapter import Refused
from conformance.adapters import reference

if TYPE_CHECKING:
    from collections.abc import Callable

CARD = "README.md"


def fetching(change: Callable[[str, dict[str, Any]], dict[str, Any]]) -> Any:
    """Fetch as the reference does, with other options."""

    def fetch(repo_id: str, **options: Any) -> Any:
        return reference.fetch(repo_id, **change(repo_id, dict(options)))

    return fetch


def first(step: Callable[[str, dict[str, Any]], object]) -> Any:
    """Do something, then fetch as the reference does."""

    def change(repo_id: str, options: dict[str, Any]) -> dict[str, Any]:
        step(repo_id, options)
        return options

    return fetching(change)


def in_other_words(*_facts: Any, **_options: Any) -> Any:
    """Fetch, and refuse in words that say nothing."""
    try:
        return reference.fetch(*_facts, **_options)
    except Refused as error:
        raise Refused("something is wrong with the Hub") from error


def refusing_for_ever() -> Any:
    """Fetch, and never again once it was refused."""
    refused: list[Refused] = []

    def fetch(repo_id: str, **options: Any) -> Any:
        if refused:
            raise refused[0]
        try:
            return reference.fetch(repo_id, **options)
        except Refused as error:
            refused.append(error)
            raise

    return fetch


def then(step: Callable[[str, str], str | None]) -> Any:
    """Push as the reference does, then do something to the repository."""

    def publish(compiled: Any, repo_id: str, **said: Any) -> str:
        revision = reference.publish(compiled, repo_id, **said)
        return step(repo_id, revision) or revision

    return publish


def upload(repo_id: str, path: str, data: bytes) -> str:
    """Push one file in a commit of its own."""
    return str(
        huggingface_hub.upload_file(
            repo_id=repo_id, path_in_repo=path, path_or_fileobj=data
        ).oid
    )


def head(repo_id: str, *_others: Any) -> str:
    """Ask the Hub where the branch is, offline or not."""
    kept = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = False
    try:
        return str(huggingface_hub.HfApi().repo_info(repo_id).sha)
    finally:
        constants.HF_HUB_OFFLINE = kept
