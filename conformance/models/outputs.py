"""A result of the caller's own class, registered when this module is imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    import torch


@dataclass
class Output:
    """A result of the caller's own class, as diffusers' models return them."""

    sample: torch.Tensor
    count: int
    nothing: None = None


pytree.register_dataclass(Output, serialized_type_name="conformance.outputs.Output")
