"""Mutants of the chapter KRN."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
import torch
from torch.nn import functional

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants._packages import sharing, telling
from conformance.models import kernels

if TYPE_CHECKING:
    from torch import nn


def _by_torch(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """Compute an Attending without the kernel."""
    shape = hidden_states.shape
    qkv = functional.linear(hidden_states, module.qkv.weight, module.qkv.bias)
    query, key, value = qkv.view(*shape[:2], 3, 2, -1).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(query, key, value)
    mixed = mixed.transpose(1, 2).reshape(shape)
    return hidden_states + functional.linear(mixed, module.out.weight, module.out.bias)


def _falls_back(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    module.forward = lambda hidden_states: _by_torch(module, hidden_states)


def _falls_back_in_need(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        module.forward = lambda hidden_states: _by_torch(module, hidden_states)


KRN_01 = mutant("KRN-01", apply=_falls_back)


def _looks_nowhere(compiled: Any, module: nn.Module) -> None:
    kept = os.environ.pop("LOCAL_KERNELS", "")
    try:
        reference.apply(compiled, module)
    finally:
        os.environ["LOCAL_KERNELS"] = kept


def _after_the_first_run(compiled: Any, module: nn.Module) -> None:
    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        del module.forward
        reference.apply(compiled, module)
        return _by_torch(module, hidden_states)

    module.forward = forward


_missed: list[Refused] = []


def _looks_once(compiled: Any, module: nn.Module) -> None:
    if _missed:
        raise _missed[0]
    try:
        reference.apply(compiled, module)
    except Refused as error:
        _missed.append(error)
        raise


KRN_02_once = mutant("KRN-02", apply=_looks_once)
KRN_02_nowhere = mutant("KRN-02", apply=_looks_nowhere)
KRN_02_late = mutant("KRN-02", apply=_after_the_first_run)


def _in_other_words(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused as error:
        raise Refused("the graph calls what is not there") from error


def _without_revision(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused as error:
        words = f"{kernels.OPERATOR} of {kernels.REPOSITORY} is missing"
        raise Refused(words) from error


KRN_03_nameless = mutant("KRN-03", apply=_in_other_words)
KRN_03_revision = mutant("KRN-03", apply=_without_revision)
KRN_03_eager = mutant("KRN-03", apply=_falls_back_in_need)


def _loads_first(compiled: Any, module: nn.Module) -> None:
    with contextlib.suppress(Exception):
        compiled.package.runner(torch.device("cpu"))
    reference.apply(compiled, module)


def _leaves_it_broken(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        module.forward = torch.zeros_like
        raise


KRN_04_loads = mutant("KRN-04", apply=_loads_first)
KRN_04_broken = mutant("KRN-04", apply=_leaves_it_broken)


def _any_revision(compiled: Any, module: nn.Module) -> None:
    """Take the kernel that is found for the one that was recorded."""
    place = dict([os.environ.get("LOCAL_KERNELS", "=").split("=")]).get(
        kernels.REPOSITORY
    )
    if place:
        reference.use_kernel(kernels.REPOSITORY, folder=Path(place))
    compiled.package.kernels = []
    reference.apply(compiled, module)


def _runs_it_first(compiled: Any, module: nn.Module) -> None:
    place = os.environ["LOCAL_KERNELS"].partition("=")[2]
    loaded = reference.use_kernel(kernels.REPOSITORY, folder=Path(place))
    loaded.attend(*torch.ones(3, 1, 1, 2, 2))
    reference.apply(compiled, module)


KRN_05_any = mutant("KRN-05", apply=_any_revision)
KRN_05_runs = mutant("KRN-05", apply=_runs_it_first)
KRN_06 = mutant("KRN-06", apply=_any_revision)


def _replaces(repo_id: str, *, folder: Path, **_others: Any) -> Any:
    """Load whatever comes, over what is there."""
    names: dict[str, Any] = {}
    code = (folder / kernels.BUILD / "__init__.py").read_text()
    exec(code, names)  # noqa: S102  # as the library does it
    return names, repo_id


def _replaces_and_refuses(repo_id: str, *, folder: Path, **others: Any) -> Any:
    try:
        return reference.use_kernel(repo_id, folder=folder, **others)
    except Refused:
        _replaces(repo_id, folder=folder)
        raise


KRN_07 = mutant("KRN-07", use_kernel=_replaces)
KRN_07_refuses = mutant("KRN-07", use_kernel=_replaces_and_refuses)


def _unlocked(repo_id: str, *, revision: str | None = None, **others: Any) -> Any:
    del revision
    return reference.use_kernel(repo_id, **others)


def _locked_late(repo_id: str, *, folder: Path, revision: str | None = None) -> Any:
    loaded = reference.use_kernel(repo_id, folder=folder)
    if revision not in (None, reference.kernel_revision(folder)):
        raise Refused(f"{repo_id} is of another revision")
    return loaded


KRN_08_unlocked = mutant("KRN-08", use_kernel=_unlocked)
KRN_08_late = mutant("KRN-08", use_kernel=_locked_late)


def _trusting(repo_id: str, *, trust: Any = (), **others: Any) -> Any:
    del trust
    return reference.use_kernel(repo_id, trust=[repo_id], **others)


def _head(repo_id: str, *, revision: str, **others: Any) -> Any:
    client = huggingface_hub.HfApi()
    found = client.repo_info(repo_id, repo_type="kernel", revision=revision).sha
    return reference.use_kernel(repo_id, revision=found, **others)


def _newest(repo_id: str, *, revision: str, **others: Any) -> Any:
    del revision
    return _head(repo_id, revision="main", **others)


KRN_09_trusting = mutant("KRN-09", use_kernel=_trusting)
KRN_09_branch = mutant("KRN-09", use_kernel=_head)
KRN_09_newest = mutant("KRN-09", use_kernel=_newest)

_folders: list[Path] = []


def _remembers(repo_id: str, *, folder: Path, **others: Any) -> Any:
    _folders.append(folder)
    return reference.use_kernel(repo_id, folder=folder, **others)


def _code() -> str:
    return (_folders[-1] / kernels.BUILD / "__init__.py").read_text()


KRN_10_path = sharing(
    "KRN-10", use_kernel=_remembers, compile=telling(lambda: str(_folders[-1]))
)
KRN_10_code = sharing("KRN-10", use_kernel=_remembers, compile=telling(_code))


KRN_11_nameless = mutant("KRN-11", apply=_in_other_words)
KRN_11_loads = mutant("KRN-11", apply=_loads_first)
KRN_12_nowhere = mutant("KRN-12", apply=_looks_nowhere)


def _scaled(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer = module.forward
    module.forward = lambda *args, **kwargs: [
        part * 1.01 for part in answer(*args, **kwargs)
    ]


KRN_12_drifts = mutant("KRN-12", apply=_scaled)


def _nameless(*args: Any, **kwargs: Any) -> Any:
    try:
        return reference.use_kernel(*args, **kwargs)
    except Refused as error:
        raise Refused("no build was found") from error


KRN_13 = mutant("KRN-13", use_kernel=_nameless)


def _trusts_its_kernels(repo_id: str, **options: Any) -> Any:
    trust = [*options.pop("trust"), "tiny-kernels"]
    return reference.fetch(repo_id, trust=trust, **options)


KRN_14 = mutant("KRN-14", fetch=_trusts_its_kernels)
