"""What may make a compiled model faster, beside the compiler's own options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.export import ExportedProgram

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


def with_epilogues(program: ExportedProgram) -> ExportedProgram:
    """Let the product before a GELU of tanh write what the GELU makes of it.

    cuBLASLt does so on a GPU; Inductor has the product written, and read again.
    """
    aten = torch.ops.aten
    graph = program.graph_module.graph
    for gelu in graph.find_nodes(op="call_function", target=aten.gelu.default):
        linear = gelu.args[0]
        alone = linear.target is aten.linear.default and len(linear.users) == 1
        if not alone or gelu.kwargs.get("approximate") != "tanh":
            continue
        x, weight, bias = linear.args
        *rows, _ = x.meta["val"].shape
        with graph.inserting_before(gelu):
            flat = graph.call_function(aten.flatten.using_ints, (x, 0, -2))
            turned = graph.call_function(aten.t.default, (weight,))
            made = graph.call_function(
                aten._addmm_activation.default,  # noqa: SLF001  # nothing public is it
                (bias, flat, turned),
                {"use_gelu": True},
            )
            shaped = graph.call_function(aten.view.default, (made, [*rows, -1]))
        shaped.meta["val"] = gelu.meta["val"]
        gelu.replace_all_uses_with(shaped)
        graph.erase_node(gelu)
        graph.erase_node(linear)
    program.graph_module.recompile()
    return program
