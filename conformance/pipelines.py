"""Real diffusers pipelines on tiny-random checkpoints, or on a checkpoint of yours."""

from __future__ import annotations

import copy
import inspect
import os
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

import fixtures
from conformance import device
from conformance.adapter import Call
from conformance.parity import truth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

_DENOISERS = ("transformer", "unet")
_DEFAULT_CALL = {
    "prompt": "a red fox in the snow",
    "num_inference_steps": 2,
    "output_type": "pt",
}


@dataclass
class Case:
    """A pipeline, how to run it, and the part of it that is compiled.

    Args:
        name: The family, or the checkpoint as it was given.
        pipe: What `DiffusionPipeline.from_pretrained` returned.
        denoiser: The attribute of `pipe` that every step calls.
        call: The arguments of one tiny run.
        output: The attribute of the result that holds images or frames.
    """

    name: str
    pipe: Any
    denoiser: str
    call: dict[str, Any]
    output: str

    @property
    def module(self) -> nn.Module:
        module: nn.Module = getattr(self.pipe, self.denoiser)
        return module

    def run(self, seed: int = 0) -> torch.Tensor:
        """Run the pipeline from the noise of `seed`: float32[n, ...] in 0..1.

        Convolutions keep all bits of float32: rounded to TF32, as cuDNN does by
        itself, the decoder hides a small error or makes it a hundred times larger.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad(), _quiet(), _all_bits():
            result = getattr(self.pipe(**self.call, generator=generator), self.output)
        return torch.as_tensor(result).cpu()

    def first_call(self) -> Call:
        """Record the denoiser's first call, with the suite's own recorder."""
        calls: list[Call] = []

        def keep(_module: nn.Module, args: Any, kwargs: Any) -> None:
            calls.append(Call(*pytree.tree_map(_clone, (args, kwargs))))

        handle = self.module.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            self.run()
        finally:
            handle.remove()
        return calls[0]

    @contextmanager
    def denoised_by(self, forward: Any) -> Iterator[None]:
        """Let `forward` stand in for the denoiser's own for a while."""
        module = self.module
        before = module.__dict__.get("forward")
        module.forward = forward
        try:
            yield
        finally:
            del module.forward
            if before is not None:
                module.forward = before

    def run_exactly(self, seed: int = 0) -> torch.Tensor:
        """Run the pipeline with a denoiser in float64, rounded to its own dtype.

        Everything but the denoiser is as in `run`, so that what differs is its.
        """
        original = copy.deepcopy(self.module)
        dtype = next(original.parameters()).dtype

        def exactly(*args: Any, **kwargs: Any) -> Any:
            result = truth(original, Call(args, kwargs))
            return pytree.tree_map_only(torch.Tensor, lambda t: t.to(dtype), result)

        # Pipelines read the names of its arguments.
        exactly.__signature__ = inspect.signature(original.forward)  # type: ignore[attr-defined]
        with self.denoised_by(exactly):
            return self.run(seed)


@contextmanager
def _all_bits() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def load(name: str, checkpoint: str | None = None) -> Case:
    """Load the pipeline of a family, or the one at `checkpoint`.

    Args:
        name: A family of `fixtures`; passed over where `checkpoint` is given.
        checkpoint: A repository on the Hub, or a folder.
    """
    from diffusers import DiffusionPipeline

    with _quiet():
        if checkpoint is not None:
            pipe = DiffusionPipeline.from_pretrained(checkpoint)
            pipe.set_progress_bar_config(disable=True)
            return _case_of(checkpoint, pipe.to(device.chosen()))
        recipe = fixtures.recipe(name)
        pipe = DiffusionPipeline.from_pretrained(_kept(name))
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device.chosen())
    return Case(name, pipe, recipe.denoiser, dict(recipe.call), recipe.output)


def _kept(name: str) -> Path:
    """Give a family's checkpoint: beside packages, where none can be kept at home."""
    try:
        return fixtures.cached(name)
    except OSError:
        root = os.environ.get("AOTI_CACHE")
        if not root:
            raise
        return fixtures.cached(name, Path(root) / "checkpoints")


def warm_up() -> None:
    """Import the classes of all families' pipelines; run nothing."""
    with _quiet():
        import diffusers

        for family in fixtures.families():
            recipe = fixtures.recipe(family)
            getattr(diffusers, recipe.pipeline)


def _case_of(name: str, pipe: Any) -> Case:
    """Work out how to run somebody's own checkpoint."""
    accepted = inspect.signature(pipe.__call__).parameters
    call = {key: value for key, value in _DEFAULT_CALL.items() if key in accepted}
    denoiser = next(
        part for part in _DENOISERS if getattr(pipe, part, None) is not None
    )
    output = "frames" if "num_frames" in accepted else "images"
    return Case(name, pipe, denoiser, call, output)


def _clone(leaf: Any) -> Any:
    """Copy a tensor with its storage, so that strides and overlaps are the same."""
    if not isinstance(leaf, torch.Tensor):
        return leaf
    copied = torch.empty(0, dtype=leaf.dtype, device=leaf.device)
    storage = leaf.untyped_storage().clone()  # type: ignore[no-untyped-call]
    return copied.set_(storage, leaf.storage_offset(), leaf.shape, leaf.stride())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' own deprecations out of the verdict on a layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
