"""Packages on the Hugging Face Hub: push one in a commit, fetch one of a commit.

A repository has a folder for each release of torch, kind of device and variant, with
the package, as `save` writes it, and a note that says what it is and its digest. A
package is native code: it is fetched only from whom the caller names, at a commit
that the caller names, and what it was fetched from stays on it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aoti_ref import _card, _kernels, _regions, _trust
from aoti_ref._errors import BrokenPackage
from aoti_ref._hub_client import cache, client, constants, told
from aoti_ref._hub_errors import NoSuchVariant, NotCached
from aoti_ref._kernel_files import Client
from aoti_ref._kernels import Kernel
from aoti_ref._regions import CompiledRegions
from aoti_ref._source import Source

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from aoti_ref._card import Compiled

_NOTE = "aoti_ref_hub.json"
_PACKAGE = "package.pt2"
_CARD = "README.md"
_LABEL = re.compile(r"[A-Za-z0-9_-]*")
_ATTEMPTS = 3
_MOVED = 412  # somebody else has pushed since we looked


def push_to_hub(
    compiled: Compiled,
    repo_id: str,
    *,
    model: str = "",
    model_revision: str = "",
    variant: str = "",
    figures: Mapping[str, object] | None = None,
    branch: str = "main",
    private: bool | None = None,
    token: str | bool | None = None,
) -> Source:
    """Push a package, with a card that says what it is, in one commit.

    The packages that the repository has for other machines, and other variants, stay;
    the card names them all. The repository is made if there is none.

    Args:
        compiled: From `compile`, `compile_variants` or `compile_regions`. It holds no
            weights.
        repo_id: The repository, as `publisher/name`.
        model: The model that it was compiled for, as `publisher/name`; it need not be
            said again if it was the `source` of `compile`.
        model_revision: The revision of that model; only with `model`.
        variant: What tells it from others for the same machine, such as `fp8`.
        figures: What was measured, each under its name, for the card.
        branch: Where to push to; it exists.
        private: Whether a repository that is made is private.
        token: As huggingface_hub takes it.

    Returns:
        Where it is: with the hash of the commit, which `load_from_hub` wants.

    Raises:
        TransferFailed: The Hub said no, could not be reached, or HF_HUB_OFFLINE is
            set. No file was changed; a repository that was made for it stays.
        NoSuchRepository, NoSuchRevision: There is no such repository or branch.
        GatedRepository: Its notes, which the card tells of, are not for this token.
        UnusableCache: The cache cannot hold these notes.
        BrokenPackage: One of them is none of ours.
        ValueError: `variant` has other characters than letters, digits, - and _; or
            there is a `model_revision` without a `model`.
    """
    if not _LABEL.fullmatch(_text("variant", variant)):
        message = f"variant must be of letters, digits, - and _, found {variant!r}"
        raise ValueError(message)
    hub, errors = client(), client(".errors")
    data = compiled.dump()
    about = _card.note(
        compiled,
        hashlib.sha256(data).hexdigest(),
        model=model,
        model_revision=model_revision,
        variant=variant,
        figures=figures or {},
    )
    folder = _card.folder(about)
    api = hub.HfApi(token=token)
    with told(repo_id, branch, "pushed", None):
        api.create_repo(repo_id, exist_ok=True, private=private)
        for attempt in range(1, _ATTEMPTS + 1):
            head = api.repo_info(repo_id, revision=branch)
            known = any(Path(f.rfilename).name == _NOTE for f in head.siblings)
            notes, foreign = (
                _notes(repo_id, head.sha, token=token) if known else _card.Notes({}, {})
            )
            foreign.pop(folder, None)  # it is replaced
            card = _card.card(repo_id, {**notes, folder: about}, foreign)
            texts = {f"{folder}/{_NOTE}": json.dumps(about, indent=1), _CARD: card}
            files = {name: text.encode() for name, text in texts.items()}
            files[f"{folder}/{_PACKAGE}"] = data
            try:
                pushed = api.create_commit(
                    repo_id,
                    [hub.CommitOperationAdd(n, d) for n, d in files.items()],
                    commit_message=f"Compile {about['module']} for {folder}",
                    revision=branch,
                    parent_commit=head.sha,
                )
            except errors.HfHubHTTPError as error:
                if error.response.status_code != _MOVED or attempt == _ATTEMPTS:
                    raise
            else:
                break
    said = about["model"], about["model_revision"]
    return Source(repo_id, pushed.oid, folder, *said)


def load_from_hub(
    repo_id: str,
    *,
    revision: str | None = None,
    trust: str | Iterable[str] = (),
    variant: str = "",
    device: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Compiled:
    """Fetch a package for this machine; its native code is loaded by the first call.

    What was fetched once comes from the cache, without a word to the Hub, so it
    serves offline and from a cache that cannot be written to. Fetch before forking:
    what this returns needs neither network nor cache.

    Args:
        repo_id: The repository, as `publisher/name`.
        revision: A full commit hash. All files are of this commit.
        trust: Repositories and publishers whose native code may run here, by their
            whole names; of the kernels that the package needs, too.
        variant: Which of several for this machine, as it was pushed; or its folder.
        device: The type of device, where there are packages for several.
        cache_dir: Instead of the client's own, HF_HUB_CACHE.
        local_files_only: Do not ask the Hub, as with HF_HUB_OFFLINE.
        token: As huggingface_hub takes it.

    Returns:
        What `apply` takes. Its `source` says where it is from.

    Raises:
        Untrusted: `trust` names neither repository nor publisher, of the package or
            of a kernel. Nothing of it was downloaded, and none of its code.
        UnpinnedRevision: `revision` is no full commit hash. Nothing was downloaded.
        NoSuchRepository, NoSuchRevision, GatedRepository: The Hub does not give it.
        NoSuchVariant: It has nothing for this machine, or too much.
        NotCached: The Hub was not to be asked.
        TransferFailed: The Hub could not be reached, or broke off. Try again.
        UnusableCache: There is no room in the cache, or it cannot be written to.
        BrokenPackage: It is not what was pushed, or of another format.
        WrongHost: It is for another machine, in what the Hub does not tell apart.
    """
    trust = _trust.names(trust)
    commit = _trust.require(repo_id, revision, trust)
    options = {"cache_dir": cache_dir, "token": token}
    options |= {"local_files_only": local_files_only}
    local = local_files_only or constants().HF_HUB_OFFLINE
    with told(repo_id, commit, "fetched", cache_dir, local=local_files_only):
        notes = _notes(repo_id, commit, **options)
    if not any(notes) and local:
        raise NotCached(repo_id, commit, cache(cache_dir))
    folder = _chosen(repo_id, commit, notes, _text("variant", variant), device)
    about = notes.known[folder]
    kernels = sorted(Kernel.read(found) for found in about["kernels"])
    for kernel in kernels:
        if _trust.is_commit(kernel.revision):  # others are never downloaded
            _trust.require(kernel.repo_id, kernel.revision, trust)
    with told(repo_id, commit, "fetched", cache_dir, local=local_files_only):
        name = f"{folder}/{_PACKAGE}"
        path = client().hf_hub_download(repo_id, name, revision=commit, **options)
    data = Path(path).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != about["sha256"]:
        reason = f"its sha256 is {found}, and {about['sha256']} was pushed"
        raise BrokenPackage(path, f"{reason}; remove it from the cache")
    compiled = _regions.read(data, path)
    if kernels != _card.kernels(compiled):  # others than trust was asked for
        reason = f"{folder}/{_NOTE} names other kernels than the package does"
        raise BrokenPackage(repo_id, reason)
    for kernel in kernels:
        _kernels.download(kernel, Client(cache_dir, token), local=local)
    said = about["model"], about["model_revision"]
    source = Source(repo_id, commit, folder, *said)
    if isinstance(compiled, CompiledRegions):
        return dataclasses.replace(compiled, source=source)
    compiled.source = source
    return compiled


def _chosen(
    repo_id: str,
    commit: str,
    notes: _card.Notes,
    variant: str,
    device: str | None,
) -> str:
    """Choose the folder of the package that is for this machine."""
    here = {"torch": _card.release(), "machine": platform.machine()}
    here |= {} if device is None else {"device": device}
    fitting = tuple(
        name
        for name, about in notes.known.items()
        if variant in (name, about["variant"])
        and all(about[key] == wanted for key, wanted in here.items())
    )
    if len(fitting) == 1:
        return fitting[0]
    wanted = ", ".join(f"{key} {value}" for key, value in here.items())
    wanted += f", variant {variant!r}" if variant else ", no variant"
    present = tuple(notes.known), tuple(notes.foreign)
    raise NoSuchVariant(repo_id, commit, wanted, fitting, *present)


def _text(name: str, found: object) -> str:
    if not isinstance(found, str):
        message = f"{name} must be a string, found {type(found).__name__}"
        raise TypeError(message)
    return found


def _notes(repo_id: str, commit: str, **options: Any) -> _card.Notes:
    """Fetch the notes of all packages in a commit."""
    pattern = f"*/{_NOTE}"
    fetched = client().snapshot_download(
        repo_id, revision=commit, allow_patterns=pattern, **options
    )
    return _card.read(sorted(Path(fetched).glob(pattern)), repo_id)
