"""Attention: which of torch's implementations a graph calls, fixed at export.

torch.export keeps `scaled_dot_product_attention` whole, and whoever compiles it later
chooses: what `sdpa_kernel` had selected by then is forgotten. Here a selection becomes
the graph's own nodes, so that nothing after it can choose otherwise.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from aoti_ref import _fused, _inductor
from aoti_ref._call import spell
from aoti_ref._errors import AotiError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch.export import ExportedProgram

ATTENTION = "aoti_ref.attention"  # what was fixed, in a graph module's `meta`

_KINDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
BACKENDS = tuple(_KINDS)
NOWHERE = "it calls scaled_dot_product_attention nowhere"
_EVERY = frozenset(BACKENDS)
_WHOLE = torch.ops.aten.scaled_dot_product_attention.default
_SELECTED = "aoti_ref.selected"  # on a node: what `sdpa_kernel` allowed


class UnusableAttention(AotiError):
    """A backend of attention cannot be what a graph calls; nothing was compiled.

    >>> print(UnusableAttention("Flux", "cudnn", "on cpu there are math and flash"))
    Flux cannot attend with 'cudnn': on cpu there are math and flash
    """

    def __init__(self, module: str, backend: str, reason: str) -> None:
        super().__init__(module, backend, reason)
        self.module = module
        self.backend = backend
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.module} cannot attend with {self.backend!r}: {self.reason}"


def check(attention: str | None, module: str, devices: Iterable[str]) -> None:
    """Refuse a name that is none, and a backend that no device of a module has.

    Args:
        attention: One of BACKENDS, or None.
        module: The module's class, for messages.
        devices: The types of the devices that its tensors and arguments are on.

    Raises:
        TypeError, ValueError: `attention` is no backend.
        UnusableAttention: It is none of the device's.
    """
    if attention is None:
        return
    known = ", ".join(map(repr, BACKENDS))
    if not isinstance(attention, str):
        found = type(attention).__name__
        message = f"attention must be one of {known} or None, found a {found}"
        raise TypeError(message)
    if attention not in _KINDS:
        message = f"attention must be one of {known} or None, found {attention!r}"
        raise ValueError(message)
    device = next(iter(sorted(set(devices) - {"cpu"})), "cpu")
    if attention not in _there(device):
        raise UnusableAttention(module, attention, _lacks(device))


def told(named: Sequence[str]) -> str:
    """Say which backends a graph calls, for a description: nothing, if torch chose.

    >>> told(["flash"]), told(["default"])
    (', attention flash', '')
    """
    fixed = [name for name in named if name != _fused.LEFT]
    return f", attention {_fused.listed(named)}" if fixed else ""


@contextmanager
def noted() -> Iterator[None]:
    """Note on every call of attention that is traced what `sdpa_kernel` allows it."""
    create = torch.fx.Graph.create_node

    def noting(
        self: torch.fx.Graph, op: str, target: Any, *args: Any, **kw: Any
    ) -> Any:
        node = create(self, op, target, *args, **kw)
        if target is _WHOLE:
            node.meta[_SELECTED] = _allowed()
        return node

    with patch.object(torch.fx.Graph, "create_node", noting):
        yield


def fix(program: ExportedProgram, attention: str | None, module: str) -> None:
    """Put the selected backends into a program, in place.

    Args:
        program: As torch.export made it, under `noted`.
        attention: What the caller asked for; None leaves it to `sdpa_kernel`, and
            where that allows every backend, to torch while it compiles.
        module: The module's class, for messages.

    Raises:
        UnusableAttention: The module selects another backend itself; or torch has no
            such kernel for a call, or has it for some of its sizes only.
    """
    fixed: set[str] = set()
    for graph, node in _calls(program):
        asked = frozenset({attention}) if attention else _EVERY
        allowed = node.meta.get(_SELECTED, _EVERY)
        if attention and not asked & allowed:
            reason = f"sdpa_kernel allows {_fused.listed(allowed)} only"
            raise UnusableAttention(module, attention, reason)
        chosen = asked & allowed
        if chosen != _EVERY:
            fixed.add(_graft(program, graph, node, chosen, module))
    program.graph_module.recompile()
    program.graph_module.meta[ATTENTION] = sorted(fixed)


def backends(program: ExportedProgram) -> list[str]:
    """Name what the calls of attention in a program are made with, each once.

    "default" stands for calls that torch chooses for while it compiles.
    """
    found = set(program.graph_module.meta.get(ATTENTION, ()))
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            targets = {node.target for node in part.graph.nodes}
            found |= {name for each in targets if (name := _fused.backend(each))}
            found |= {_fused.LEFT for each in targets if each is _WHOLE}
    return sorted(found)


def compiling(named: Sequence[str]) -> AbstractContextManager[Any]:
    """Have Inductor make no fused kernel of what was taken apart on purpose."""
    return sdpa_kernel(_KINDS["math"]) if list(named) == ["math"] else nullcontext()


def _calls(
    program: ExportedProgram,
) -> list[tuple[torch.fx.GraphModule, torch.fx.Node]]:
    """Find every call that is whole, with the graph that it is in."""
    parts = program.graph_module.modules()
    return [
        (part, node)
        for part in parts
        if isinstance(part, torch.fx.GraphModule)
        for node in part.graph.find_nodes(op="call_function", target=_WHOLE)
    ]


def _graft(
    program: ExportedProgram,
    owner: torch.fx.GraphModule,
    node: torch.fx.Node,
    chosen: frozenset[str],
    module: str,
) -> str:
    """Put the nodes of a backend in the place of a call; give the backend's name."""
    asked = _fused.listed(chosen)
    if any("val" not in given.meta for given in node.all_input_nodes):
        raise UnusableAttention(module, asked, "it is called within a branch or a loop")
    given = {each: each.meta["val"] for each in node.all_input_nodes}
    query = next(v for v in given.values() if isinstance(v, torch.Tensor))
    if not chosen & _there(query.device.type):
        raise UnusableAttention(module, asked, _lacks(query.device.type))
    spelt = ", ".join(
        spell(value.dtype, [str(size) for size in value.shape])
        for value in given.values()
        if isinstance(value, torch.Tensor)
    )

    def call(*values: Any) -> Any:
        names = dict(zip(given, values, strict=True))
        args, kwargs = torch.fx.node.map_arg(
            (node.args, node.kwargs), names.__getitem__
        )
        return _WHOLE(*args, **kwargs)

    try:
        with torch.no_grad(), sdpa_kernel([_KINDS[name] for name in sorted(chosen)]):
            traced, conditions = _inductor.traced(call, list(given.values()))
    except RuntimeError as error:
        said = str(error).strip().splitlines()[0]
        raise UnusableAttention(module, asked, f"not for {spelt}: {said}") from error
    if conditions:
        where = " and ".join(conditions)
        raise UnusableAttention(module, asked, f"for {spelt} only where {where}")
    names = {name for n in traced.graph.nodes if (name := _fused.backend(n.target))}
    (found,) = names or {"math"}
    if found not in chosen:
        raise UnusableAttention(module, asked, f"torch takes {found} for {spelt}")
    places: dict[torch.fx.Node, Any] = dict(
        zip(traced.graph.find_nodes(op="placeholder"), given, strict=True)
    )
    with owner.graph.inserting_before(node):
        result: Any = owner.graph.graph_copy(traced.graph, places)
    node.replace_all_uses_with(result)
    if owner is program.graph_module:
        program.graph_signature.replace_all_uses(node.name, result.name)
    owner.graph.erase_node(node)
    owner.recompile()
    return found


def _there(device: str) -> frozenset[str]:
    """Name the backends of a device of this build of torch."""
    if device == "cpu":
        return frozenset({"math", "flash"})
    if device != "cuda":
        return frozenset({"math"})
    cudnn: Any = torch.backends.cudnn
    absent = {
        "flash": not torch.backends.cuda.is_flash_attention_available(),
        "cudnn": not cudnn.is_available(),
    }
    return _EVERY - {name for name, lacking in absent.items() if lacking}


def _lacks(device: str) -> str:
    return f"on {device} there are {_fused.listed(_there(device))}"


def _allowed() -> frozenset[str]:
    """Name the backends that `sdpa_kernel` allows now."""
    flags: Any = torch.backends.cuda
    states = {
        "math": flags.math_sdp_enabled(),
        "flash": flags.flash_sdp_enabled(),
        "efficient": flags.mem_efficient_sdp_enabled(),
        "cudnn": flags.cudnn_sdp_enabled(),
    }
    return frozenset(name for name, on in states.items() if on)
