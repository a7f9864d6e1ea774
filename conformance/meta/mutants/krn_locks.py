"""Mutants of the chapter KRN: locks of kernels, and trust in them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import kernels as library

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant
from conformance.models import kernels

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_COMMIT = 40


def _takes_any_commit(repo_id: str, *, revision: str = "", **others: Any) -> Any:
    wanted = None if len(revision) == _COMMIT else revision
    return reference.use_kernel(repo_id, revision=wanted, **others)


KRN_08_commit = mutant("KRN-08", use_kernel=_takes_any_commit)


def _trusts_what_is_cached(compiled: Any, module: nn.Module) -> None:
    for repo_id, revision, *_ in compiled.package.kernels:
        reference.use_kernel(repo_id, revision=revision, trust=[repo_id])
    reference.apply(compiled, module)


def _in_other_words(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused as error:
        raise Refused("something here is not trusted") from error


def _refuses_for_good(compiled: Any, module: nn.Module) -> None:
    for kernel in compiled.package.kernels:
        raise Refused(f"{kernel.repo_id} is not trusted")
    reference.apply(compiled, module)


KRN_29_cached = mutant("KRN-29", apply=_trusts_what_is_cached)
KRN_29_nameless = mutant("KRN-29", apply=_in_other_words)
KRN_29_for_good = mutant("KRN-29", apply=_refuses_for_good)


def _loads(repo_id: str, folder: Path, *, right: bool) -> Any:
    if not right:
        raise Refused(f"{repo_id} is of another revision")
    return library.get_local_kernel(folder)


def _as_python_does(repo_id: str, *, folder: Path, revision: str) -> Any:
    right = reference.kernel_revision(folder) == revision
    return _loads(repo_id, folder, right=right)


def _blind_to_links(folder: Path) -> str:
    files = sorted((folder / kernels.BUILD).rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _blindly(repo_id: str, *, folder: Path, revision: str) -> Any:
    return _loads(repo_id, folder, right=_blind_to_links(folder) == revision)


KRN_30_compiled = mutant("KRN-30", use_kernel=_as_python_does)
KRN_30_linked = mutant("KRN-30", kernel_revision=_blind_to_links, use_kernel=_blindly)
