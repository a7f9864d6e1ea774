"""Mutants of the chapter PRC: jobs that find another state than their caller's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from conformance.meta.mutants._make import mutant
from conformance.meta.mutants.prc import in_the_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.meta.mutants.prc import Job


def _after(prepare: Callable[[], object]) -> Any:
    """Make workers of which each job does something else first."""

    def prepared(job: Job, args: Any, kwargs: Any) -> Any:
        prepare()
        return job(*args, **kwargs)

    return in_the_child(prepared)


def _without_inference_mode(job: Job, args: Any, kwargs: Any) -> Any:
    grad = torch.is_grad_enabled()
    with torch.inference_mode(mode=False), torch.set_grad_enabled(grad):
        return job(*args, **kwargs)


# PRC-01: it draws numbers of its own, as data loaders do; it leaves the folder, as
# daemons do; it starts with defaults, or without an environment, as a new Python does.
PRC_01_seeds = mutant("PRC-01", worker=_after(torch.seed))
PRC_01_folder = mutant("PRC-01", worker=_after(lambda: os.chdir("/")))
PRC_01_environment = mutant("PRC-01", worker=_after(os.environ.clear))
PRC_01_dtype = mutant(
    "PRC-01", worker=_after(lambda: torch.set_default_dtype(torch.float32))
)
PRC_01_inference = mutant("PRC-01", worker=in_the_child(_without_inference_mode))
