"""Hold custom operators to what their fake kernels promise.

Export believes a fake kernel, and compiled code reads the bytes that the real one
returns as what was promised: of another dtype, or beyond the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from aoti_ref._call import spell

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_TORCHS_OWN = {"aten", "prim", "prims"}


def broken_promises(program: ExportedProgram, leaves: list[Any]) -> str:
    """Run the graph once if it has custom operators, and compare them with their fakes.

    It costs one eager pass, and nothing where all operators are torch's own or the
    weights are not there.

    Args:
        program: From `torch.export.export`.
        leaves: Of the arguments that it was exported with; they are left alone.

    Returns:
        What is wrong with the first operator that is; empty if none is.
    """
    if not any(_is_custom(node) for node in program.graph.nodes):
        return ""
    held = [*program.state_dict.values(), *program.constants.values()]
    tensors = [t for t in [*held, *leaves] if isinstance(t, torch.Tensor)]
    if any(tensor.is_meta for tensor in tensors):
        return ""
    kept = {name: buffer.clone() for name, buffer in program.named_buffers()}
    copies = [x.clone() if isinstance(x, torch.Tensor) else x for x in leaves]
    devices = {t.device.index for t in tensors if t.device.type == "cuda"}
    watch = _Watch(program.module())
    try:
        with torch.random.fork_rng(sorted(devices - {None})):
            watch.run(*copies)
    finally:
        for name, buffer in program.named_buffers():
            buffer.copy_(kept[name])
    return watch.broken


def custom_operators(program: ExportedProgram) -> list[str]:
    """Name the operators of a graph that are not torch's own: `mine::attention`."""
    graphs = (
        part
        for part in program.graph_module.modules()
        if isinstance(part, torch.fx.GraphModule)
    )
    nodes = (node for graph in graphs for node in graph.graph.nodes)
    return sorted({n.target.name().partition(".")[0] for n in nodes if _is_custom(n)})


class _Watch(torch.fx.Interpreter):
    """Runs a graph and compares what custom operators return with their fakes."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__(graph)
        self.broken = ""

    def run_node(self, n: torch.fx.Node) -> Any:
        found = super().run_node(n)
        if _is_custom(n) and not self.broken:
            detail = _difference(found, n.meta["val"])
            self.broken = f"the operator {n.target} {detail}" if detail else ""
        return found


def _is_custom(node: torch.fx.Node) -> bool:
    return (
        isinstance(node.target, torch._ops.OpOverload)
        and node.target.namespace not in _TORCHS_OWN
    )


def _difference(found: Any, promised: Any) -> str:
    """Say in what a result is none that was promised; empty if it is one."""
    reals, fakes = pytree.tree_leaves(found), pytree.tree_leaves(promised)
    if len(reals) != len(fakes):
        return f"returns {len(reals)} values, its fake kernel promises {len(fakes)}"
    for real, fake in zip(reals, fakes, strict=True):
        if isinstance(real, torch.Tensor) != isinstance(fake, torch.Tensor):
            kinds = type(real).__name__, type(fake).__name__
            return "returns a {}, its fake kernel promises a {}".format(*kinds)
        if isinstance(real, torch.Tensor) and _differ(real, fake):
            came, told = _describe(real), _describe(fake)
            return f"returns {came}, its fake kernel promises {told}"
    return ""


def _differ(real: torch.Tensor, fake: torch.Tensor) -> bool:
    if (real.dtype, real.device.type) != (fake.dtype, fake.device.type):
        return True
    if real.ndim != fake.ndim:
        return True
    # Strides say nothing where a dimension has one element at most.
    told = [dim for dim, size in enumerate(real.shape) if size > 1 and real.numel()]
    sizes = [
        (size, _known(promised))
        for size, promised in zip(real.shape, fake.shape, strict=True)
    ]
    steps = [(real.stride(dim), _known(fake.stride(dim))) for dim in told]
    return any(promised not in (found, None) for found, promised in [*sizes, *steps])


def _known(size: int | torch.SymInt) -> int | None:
    """Give a size as it was in the example; None where the graph computes it."""
    hint = size if isinstance(size, int) else size.node.hint
    return None if hint is None else int(hint)


def _describe(tensor: torch.Tensor) -> str:
    sizes = [_known(size) or "?" for size in tensor.shape]
    strides = [_known(stride) or "?" for stride in tensor.stride()]
    where = "" if tensor.device.type == "cpu" else f" on {tensor.device}"
    return f"{spell(tensor.dtype, sizes)}{where} with the strides {strides}"
