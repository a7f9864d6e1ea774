"""Give a graph the form of the call that it was exported for.

A graph takes every argument, in the order of the signature. torch's own loader, and
layers above it, call a package in one form only, the one that it carries: so that is
the form in which the captured call was made, without what was left at its default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils import _pytree as pytree

from aoti_ref import _inductor
from aoti_ref._contract import FORM

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram


def as_called(
    graph: torch.fx.GraphModule, program: ExportedProgram
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Change a graph's form to that of the recorded call, where that is possible.

    Args:
        graph: Of `program`; only what it says of its arguments is changed.
        program: From `aoti_ref.export`, or torch's, which stays as it is.

    Returns:
        The example arguments in that form.
    """
    args, kwargs = program.example_inputs or ((), {})
    placed, named = program.graph_module.meta.get(FORM, (len(args), list(kwargs)))
    taken = _names(graph)
    values = [*args, *kwargs.values()]
    if len(taken) != len(values) or placed > len(values):
        return args, kwargs  # arguments were gathered, or are fixed
    found = dict(zip(taken, values, strict=True))
    first = taken[:placed]
    rest = [name for name in taken[placed:] if name in named]
    left_out = [name for name in taken[placed:] if name not in named]
    leaves = {n: len(pytree.tree_leaves(value)) for n, value in found.items()}
    inputs = _inputs(graph, leaves)
    unused = [node for name in left_out for node in inputs[name]]
    if set(named) - set(rest) or any(node.users for node in unused):
        return args, kwargs
    for node in unused:
        graph.graph.erase_node(node)
    given = tuple(found[name] for name in first), {name: found[name] for name in rest}
    _inductor.call_as(graph, *given)
    return given


def _names(graph: torch.fx.GraphModule) -> list[str]:
    codegen: Any = graph.graph._codegen
    spec = codegen.pytree_info.in_spec
    names: list[str] = list(codegen.pytree_info.orig_args)
    return [name for name in names if name != "self"] if spec is not None else []


def _inputs(
    graph: torch.fx.GraphModule, leaves: dict[str, int]
) -> dict[str, list[torch.fx.Node]]:
    """Give the inputs of a graph that each argument's leaves are."""
    nodes = iter(graph.graph.find_nodes(op="placeholder"))
    return {n: [next(nodes) for _ in range(count)] for n, count in leaves.items()}
