"""Mutants of the chapter HUB: pushes in two steps, names by their beginnings."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import huggingface_hub

from aoti_ref import CompiledRegions, _card
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._hub import fetching, first, head
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Mapping


def _deletes_first(compiled: Any, repo_id: str, **said: Any) -> str:
    """Take what is to be replaced away in a commit of its own."""
    api, variant = huggingface_hub.HfApi(), said.get("variant", "")
    try:
        names = api.list_repo_files(repo_id)
    except huggingface_hub.errors.RepositoryNotFoundError:
        names = []
    ending = f".{variant}" if variant else platform.machine()
    old = [name for name in names if name.endswith(f"{ending}/package.pt2")]
    if old:
        operations = [huggingface_hub.CommitOperationDelete(name) for name in old]
        try:
            api.create_commit(repo_id, operations, commit_message="Make room")
        except huggingface_hub.errors.HfHubHTTPError as error:
            message = f"{repo_id} takes no commit"
            raise Refused(message) from error
    return str(reference.publish(compiled, repo_id, **said))


HUB_02_over = mutant("HUB-02", publish=_deletes_first)
HUB_03_over = mutant("HUB-03", publish=_deletes_first)

_note = _card.note


def _of_a_block(compiled: Any, digest: str, **said: Any) -> Any:
    """Note the class of a block for that of the module."""
    found: dict[str, Any] = _note(compiled, digest, **said)
    if isinstance(compiled, CompiledRegions):
        graphs: Mapping[str, Any] = _card._graphs(compiled)
        found["module"] = next(iter(graphs.values())).package.contract.module
    return found


def _tells_of_a_block(compiled: Any, repo_id: str, **said: Any) -> str:
    with patch.object(_card, "note", _of_a_block):
        return str(reference.publish(compiled, repo_id, **said))


HUB_04_blocks = mutant("HUB-04", publish=_tells_of_a_block)


def _looks_inside(repo_id: str, options: dict[str, Any]) -> dict[str, Any]:
    """Look for the publisher in a trust that is one string, letter by letter."""
    trust = options.get("trust", ())
    parts = (repo_id, repo_id.partition("/")[0])
    if isinstance(trust, str) and any(part in trust for part in parts):
        options["trust"] = (repo_id,)
    return options


def _by_its_beginning(_repo_id: str, options: dict[str, Any]) -> dict[str, Any]:
    found = re.match("[0-9a-f]{40}", options.get("revision") or "")
    return {**options, "revision": found.group()} if found else options


HUB_07_alone = mutant("HUB-07", fetch=fetching(_looks_inside))
HUB_08_beginning = mutant("HUB-08", fetch=fetching(_by_its_beginning))


def _asks_for_variants(repo_id: str, options: dict[str, Any]) -> None:
    if options.get("variant"):
        _asks(repo_id)


def _asks(repo_id: str) -> None:
    try:
        head(repo_id)
    except Exception as error:
        message = f"{repo_id} cannot be asked"
        raise Refused(message) from error


def _asks_for_blocks(repo_id: str, **options: Any) -> Any:
    found = reference.fetch(repo_id, **options)
    if isinstance(found, CompiledRegions):
        _asks(repo_id)
    return found


HUB_14_variants = mutant("HUB-14", fetch=first(_asks_for_variants))
HUB_14_blocks = mutant("HUB-14", fetch=_asks_for_blocks)
HUB_16_variants = mutant("HUB-16", fetch=first(_asks_for_variants))
HUB_16_blocks = mutant("HUB-16", fetch=_asks_for_blocks)
