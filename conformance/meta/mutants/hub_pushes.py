"""Mutants of the chapter HUB: pushes over others, and what looks like what is asked."""

from __future__ import annotations

from typing import Any

import huggingface_hub

from aoti_ref import CompiledRegions
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._hub import fetching, head, upload
from conformance.meta.mutants._make import mutant
from conformance.models import blocks, regions

_pushed: list[Any] = []


# HUB-01: where there is a package, another one is not pushed over it.
def _unless_there(compiled: Any, repo_id: str, **said: Any) -> str:
    if _pushed:
        return head(repo_id)
    _pushed.append(compiled)
    return reference.publish(compiled, repo_id, **said)


HUB_01_over = mutant("HUB-01", publish=_unless_there)


# HUB-05: what is pushed of blocks has the weights of the first beside it.
def _with_a_block(compiled: Any, repo_id: str, **said: Any) -> str:
    revision = reference.publish(compiled, repo_id, **said)
    if not isinstance(compiled, CompiledRegions):
        return revision
    weight = blocks.seeded(regions.Twofold).get_parameter("turned.0.proj.weight")
    return upload(repo_id, "block.bin", weight.numpy().tobytes())


HUB_05_blocks = mutant("HUB-05", publish=_with_a_block)


# HUB-08: what is as long as a hash is one.
def _by_length(repo_id: str, options: dict[str, Any]) -> dict[str, Any]:
    name = options.get("revision") or ""
    if len(name) != 40 or set(name) <= set("0123456789abcdef"):
        return options
    found = huggingface_hub.HfApi().repo_info(repo_id, revision=name).sha
    return {**options, "revision": found}


HUB_08_length = mutant("HUB-08", fetch=fetching(_by_length))


# HUB-11: what begins with the name is it.
def _beginning(repo_id: str, *, variant: str = "", **options: Any) -> Any:
    try:
        return reference.fetch(repo_id, variant=variant, **options)
    except Refused:
        return reference.fetch(repo_id, variant=f"{variant}-large", **options)


HUB_11_beginning = mutant("HUB-11", fetch=_beginning)


# HUB-20: only packages of one graph are held to what was pushed.
def _keeps(compiled: Any, repo_id: str, **said: Any) -> str:
    _pushed.append(compiled)
    return reference.publish(compiled, repo_id, **said)


def _lenient_with_blocks(repo_id: str, **options: Any) -> Any:
    try:
        return reference.fetch(repo_id, **options)
    except Refused:
        if not isinstance(_pushed[-1], CompiledRegions):
            raise
        return _pushed[-1]


HUB_20_blocks = mutant("HUB-20", publish=_keeps, fetch=_lenient_with_blocks)
