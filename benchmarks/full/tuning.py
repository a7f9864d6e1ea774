"""What may make a compiled model faster, beside the compiler's own options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_SINGLE = {
    "to_qkv": ("to_q", "to_k", "to_v"),
    "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
}


class Replayed:
    """Calls of one form, as a CUDA graph of the first; on a CPU, as they are."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.graph: Any = None

    def __call__(self, **call: Any) -> Any:
        tensors = {k: v for k, v in call.items() if isinstance(v, torch.Tensor)}
        if all(tensor.device.type == "cpu" for tensor in tensors.values()):
            return self.function(**call)
        if self.graph is None:
            self.held = {name: tensor.clone() for name, tensor in tensors.items()}
            self.function(**{**call, **self.held})  # what only a first call does
            torch.cuda.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="relaxed"):
                self.answer = self.function(**{**call, **self.held})
        for name, tensor in tensors.items():
            self.held[name].copy_(tensor)
        self.graph.replay()
        return tuple(part.clone() for part in self.answer)


def fused(module: Any) -> Any:
    """Let one layer make queries, keys and values; take the three away."""
    module.fuse_qkv_projections()
    for part in module.modules():
        if not getattr(part, "fused_projections", False):
            continue
        for fused, single in _SINGLE.items():
            for name in single if hasattr(part, fused) else ():
                delattr(part, name)
    # New layers are in training mode, and lie where the allocator had room.
    device = next(module.parameters()).device
    return module.eval().to("cpu").to(device)
