"""Mutants of the chapter HUB: pushes, trust and revisions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import huggingface_hub
import torch
from huggingface_hub.utils.tqdm import disable_progress_bars

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import altered
from conformance.meta.mutants._blocks import eager
from conformance.meta.mutants._blocks import then as block_then
from conformance.meta.mutants._hub import (
    CARD,
    fetching,
    first,
    head,
    in_other_words,
    then,
    upload,
)
from conformance.meta.mutants._make import mutant
from conformance.models import blocks

if TYPE_CHECKING:
    from torch import nn

HUB_01_drifts = mutant("HUB-01", apply=altered(lambda x: x + 1e-2))
HUB_01_eager = mutant("HUB-01", apply=block_then(("plain.1",), eager))


def _on_a_copy(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, copy.deepcopy(module))


HUB_01_nothing = mutant("HUB-01", apply=_on_a_copy)

HUB_02_two = mutant(
    "HUB-02", publish=then(lambda repo_id, _: upload(repo_id, CARD, b"# A graph"))
)
HUB_02_branch = mutant("HUB-02", publish=then(lambda *_: "main"))


def _piece_by_piece(compiled: Any, repo_id: str, **said: Any) -> str:
    huggingface_hub.create_repo(repo_id, exist_ok=True)
    # Whatever differs from push to push: an equal file would be no commit.
    upload(repo_id, "graph/package.pt2", repr((compiled, said)).encode())
    return reference.publish(compiled, repo_id, **said)


HUB_03 = mutant("HUB-03", publish=_piece_by_piece)


def _silent_about(*names: str) -> Any:
    def publish(compiled: Any, repo_id: str, **said: Any) -> str:
        told = {name: what for name, what in said.items() if name not in names}
        return reference.publish(compiled, repo_id, **told)

    return publish


HUB_04_figures = mutant("HUB-04", publish=_silent_about("figures"))
HUB_04_revision = mutant("HUB-04", publish=_silent_about("model_revision"))


def _silent_about_libraries(repo_id: str, _revision: str) -> str:
    files = huggingface_hub.hf_hub_download(repo_id, CARD)
    lines = Path(files).read_text().splitlines()
    kept = [line for line in lines if "diffusers" not in line]
    return upload(repo_id, CARD, "\n".join(kept).encode())


HUB_04_libraries = mutant("HUB-04", publish=then(_silent_about_libraries))


def _with_weights(repo_id: str, _revision: str) -> str:
    state = blocks.seeded(blocks.Stack).state_dict().values()
    raw = [bytes(t.reshape(-1).view(torch.uint8).tolist()) for t in state]
    return upload(repo_id, "weights.bin", b"".join(raw))


HUB_05 = mutant("HUB-05", publish=then(_with_weights))


def _asks_too_late(repo_id: str, **options: Any) -> Any:
    fetched = reference.fetch(repo_id, **{**options, "trust": [repo_id]})
    if not options["trust"]:
        raise Refused(f"{repo_id} is not trusted")
    return fetched


HUB_06_late = mutant("HUB-06", fetch=_asks_too_late)
HUB_06_never = mutant(
    "HUB-06", fetch=fetching(lambda repo_id, said: {**said, "trust": [repo_id]})
)


def _by(matches: Any) -> Any:
    def change(repo_id: str, options: dict[str, Any]) -> dict[str, Any]:
        trusted = any(matches(repo_id, name) for name in options["trust"])
        return {**options, "trust": [repo_id] if trusted else []}

    return fetching(change)


HUB_07_beginning = mutant("HUB-07", fetch=_by(lambda r, n: n and r.startswith(n)))
HUB_07_end = mutant("HUB-07", fetch=_by(lambda r, n: n and r.endswith(n)))
HUB_07_case = mutant(
    "HUB-07",
    fetch=_by(lambda r, n: n.lower() in (r, r.partition("/")[0])),
)
HUB_07_publisher = mutant("HUB-07", fetch=_by(lambda r, n: r == n))


def _resolved(repo_id: str, options: dict[str, Any]) -> dict[str, Any]:
    revision = options.get("revision") or "main"
    found = huggingface_hub.HfApi().repo_info(repo_id, revision=revision).sha
    return {**options, "revision": found}


def _unsaid(repo_id: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"revision": head(repo_id), **options}


HUB_08_branch = mutant("HUB-08", fetch=fetching(_resolved))
HUB_08_head = mutant("HUB-08", fetch=fetching(_unsaid))
HUB_08_nameless = mutant("HUB-08", fetch=in_other_words)

_known: dict[int, tuple[str, str]] = {}


def _remembers(repo_id: str, **options: Any) -> Any:
    fetched = reference.fetch(repo_id, **options)
    _known[id(fetched)] = reference.origin(fetched)
    return fetched


HUB_09_main = mutant("HUB-09", origin=lambda c: (reference.origin(c)[0], "main"))
HUB_09_pickled = mutant(
    "HUB-09", fetch=_remembers, origin=lambda c: _known.get(id(c), ("", ""))
)


def _of_main(repo_id: str, **options: Any) -> Any:
    take: Any = huggingface_hub.hf_hub_download

    def newest(*args: Any, **kwargs: Any) -> Any:
        return take(*args, **{**kwargs, "revision": "main"})

    with patch("huggingface_hub.hf_hub_download", newest):
        return reference.fetch(repo_id, **options)


HUB_10 = mutant("HUB-10", fetch=_of_main)


def _any_variant(repo_id: str, **options: Any) -> Any:
    try:
        return reference.fetch(repo_id, **options)
    except Refused:
        return reference.fetch(repo_id, **{**options, "variant": "float8-large"})


HUB_11_any = mutant("HUB-11", fetch=_any_variant)
HUB_11_nameless = mutant("HUB-11", fetch=in_other_words)


def _without_present(repo_id: str, **options: Any) -> Any:
    try:
        return reference.fetch(repo_id, **options)
    except Refused as error:
        raise Refused(f"{repo_id} has no {options['variant']}") from error


HUB_11_present = mutant("HUB-11", fetch=_without_present)

HUB_12_nameless = mutant("HUB-12", fetch=in_other_words)


def _missing(repo_id: str, **options: Any) -> Any:
    try:
        return reference.fetch(repo_id, **options)
    except Refused as error:
        raise Refused(f"{repo_id} was not found") from error


HUB_12_commit = mutant("HUB-12", fetch=_missing)
HUB_13 = mutant("HUB-13", fetch=_missing)

_pushed: list[Any] = []


def _keeps(compiled: Any, repo_id: str, **said: Any) -> str:
    _pushed.append(compiled)
    return reference.publish(compiled, repo_id, **said)


def _takes_what_it_has(repo_id: str, **options: Any) -> Any:
    try:
        return reference.fetch(repo_id, **options)
    except Refused:
        return _pushed[-1]


HUB_20 = mutant("HUB-20", publish=_keeps, fetch=_takes_what_it_has)
HUB_20_maps = mutant(
    "HUB-20",
    publish=_keeps,
    fetch=first(lambda *_: _pushed[-1].package.runner(torch.device("cpu"))),
)


def _alone(repo_id: str, _revision: str) -> str | None:
    """Delete what other pushes have left."""
    client = huggingface_hub.HfApi()
    names = [n for n in client.list_repo_files(repo_id) if n.endswith("package.pt2")]
    gone = [name for name in names if "second" not in name]
    if len(names) == len(gone):
        return None
    operations = [huggingface_hub.CommitOperationDelete(name) for name in gone]
    made = client.create_commit(repo_id, operations, commit_message="Tidy up")
    return str(made.oid)


HUB_22_deletes = mutant("HUB-22", publish=then(_alone))


def _own_card(compiled: Any, repo_id: str, **said: Any) -> str:
    reference.publish(compiled, repo_id, **said)
    return upload(repo_id, CARD, f"# {said.get('variant')}".encode())


HUB_22_card = mutant("HUB-22", publish=_own_card)


def _whatever_came(compiled: Any, repo_id: str, **said: Any) -> str:
    commit: Any = huggingface_hub.HfApi.create_commit

    def blindly(self: Any, *args: Any, **kwargs: Any) -> Any:
        return commit(self, *args, **{**kwargs, "parent_commit": None})

    with patch.object(huggingface_hub.HfApi, "create_commit", blindly):
        return reference.publish(compiled, repo_id, **said)


HUB_23 = mutant("HUB-23", publish=_whatever_came)


def _in_silence(_repo_id: str, _options: dict[str, Any]) -> None:
    disable_progress_bars()


HUB_24 = mutant("HUB-24", fetch=first(_in_silence))
