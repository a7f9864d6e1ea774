"""Derive the contract of a call from an exported program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    OutputKind,
    TensorArgument,
)

from aoti_ref import _conditions, _tree
from aoti_ref._contract import (
    DIMS,
    FIXED,
    PYTHON_NUMBERS,
    Contract,
    Leaf,
    Size,
    Symbol,
    TensorSpec,
    ValueSpec,
)
from aoti_ref._making_errors import NotCompilable

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def derive(program: ExportedProgram, module: str) -> Contract:
    """Derive the contract of an exported program.

    Args:
        program: As `torch.export.export` or `aoti_ref.export` made it.
        module: What to call the module in messages.

    Raises:
        NotCompilable: An argument or a result is of a kind that a package cannot
            promise anything about.
    """
    try:
        arguments = _arguments(program)
        result = _tree.dump_result(program.call_spec.out_spec)
    except (TypeError, NotImplementedError) as error:
        raise NotCompilable(module, str(error)) from error
    nodes = {node.name: node for node in program.graph.nodes}
    symbols = _symbols(program)
    leaves: list[Leaf] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is not InputKind.USER_INPUT:
            continue
        if isinstance(spec.arg, TensorArgument):
            leaves.append(
                _tensor(nodes[spec.arg.name].meta["val"], module, spec.arg.name)
            )
        elif isinstance(spec.arg, ConstantArgument):
            leaves.append(_value(spec.arg.value, module, spec.arg.name))
        else:
            kind = type(spec.arg).__name__
            raise NotCompilable(module, f"argument {spec.arg.name} is a {kind}")
    mutates_inputs, writes = _writes(program, module)
    used = {s.symbol for x in leaves if isinstance(x, TensorSpec) for s in _free(x)}
    return Contract(
        module=module,
        arguments=arguments,
        leaves=tuple(leaves),
        symbols={name: symbols[name] for name in sorted(used)},
        conditions=_conditions.derive(program, used),
        outputs=_outputs(program, nodes, module),
        result=result,
        mutates_inputs=mutates_inputs,
        writes=writes,
        fixed=program.graph_module.meta.get(FIXED, {}),
    )


def _value(value: Any, module: str, name: str) -> ValueSpec:
    if value is None or type(value) in (bool, int, float, str):
        return ValueSpec(value)
    kind = type(value).__name__
    raise NotCompilable(module, f"argument {name} is a {kind}, which no package keeps")


def _arguments(program: ExportedProgram) -> dict[str, _tree.Tree]:
    args, kwargs = _tree.children_of(program.call_spec.in_spec)
    positional, named = _tree.children_of(args), _tree.children_of(kwargs)
    signature = program.module_call_graph[0].signature
    names = list((signature.forward_arg_names if signature else None) or ())
    names = names[: len(positional)]
    names += [f"args_{i}" for i in range(len(names), len(positional))]
    names += kwargs.context
    pairs = zip(names, positional + named, strict=True)
    return {name: _tree.draw(spec) for name, spec in pairs}


def leaf_nodes(program: ExportedProgram) -> dict[str, str]:
    """Map the path of every leaf of the call to the name of its placeholder."""
    trees = _arguments(program).items()
    named = [path for name, tree in trees for path in _tree.paths(tree, name)]
    kind = InputKind.USER_INPUT
    inputs = [s.arg for s in program.graph_signature.input_specs if s.kind is kind]
    return {path: arg.name for path, arg in zip(named, inputs, strict=True)}


def _symbols(program: ExportedProgram) -> dict[str, Symbol]:
    names: dict[str, str] = program.graph_module.meta.get(DIMS, {})
    return {
        str(symbol): Symbol(
            names.get(str(symbol), str(symbol)), _int(ends.lower), _int(ends.upper)
        )
        for symbol, ends in program.range_constraints.items()
    }


def _int(end: Any) -> int:
    """Make an int of a sympy bound, where infinity stands for no bound."""
    try:
        return int(end)
    except (TypeError, ValueError, OverflowError, AttributeError):
        return 2**63 - 1


def _tensor(fake: torch.Tensor, module: str, name: str) -> TensorSpec:
    if fake.layout is not torch.strided:
        raise NotCompilable(module, f"argument {name} has the layout {fake.layout}")
    sizes = tuple(_size(size, module, name) for size in fake.shape)
    # Hints, not symbols, decide the order; ties (sizes of 1) keep their place.
    strides = [_hint(stride) for stride in fake.stride()]
    order = sorted(range(fake.ndim), key=lambda d: (-strides[d], d))
    expected = 1
    for dim in reversed(order):
        hint = _hint(fake.shape[dim])
        if hint != 1 and strides[dim] != expected:
            gaps = f"gaps or overlaps (strides {strides})"
            raise NotCompilable(module, f"argument {name} was exported with {gaps}")
        expected *= max(hint, 1)
    return TensorSpec(
        str(fake.dtype).removeprefix("torch."), fake.device.type, sizes, tuple(order)
    )


def _hint(size: int | torch.SymInt) -> int:
    return size if isinstance(size, int) else int(size.node.hint)


def _size(size: int | torch.SymInt, module: str, name: str) -> int | Size:
    if isinstance(size, int):
        return size
    expression: Any = size.node.expr
    if expression.is_number:
        return int(expression)
    free = list(expression.free_symbols)
    if len(free) == 1:
        (symbol,) = free
        plus, times = expression.subs(symbol, 0), expression.diff(symbol)
        if times.is_integer and times.is_number and plus.is_integer and times > 0:
            return Size(str(symbol), int(times), int(plus))
    raise NotCompilable(module, f"a size of argument {name} follows {expression}")


def _free(spec: TensorSpec) -> list[Size]:
    return [size for size in spec.sizes if isinstance(size, Size)]


def _outputs(
    program: ExportedProgram, nodes: dict[str, Any], module: str
) -> tuple[str | ValueSpec, ...]:
    outputs: list[str | ValueSpec] = []
    for spec in program.graph_signature.output_specs:
        if spec.kind is not OutputKind.USER_OUTPUT:
            continue
        if isinstance(spec.arg, ConstantArgument):
            outputs.append(ValueSpec(spec.arg.value))
            continue
        value = nodes[spec.arg.name].meta["val"]
        if isinstance(value, torch.Tensor):
            outputs.append(str(value.dtype).removeprefix("torch."))
        elif type(value) in PYTHON_NUMBERS:
            outputs.append(PYTHON_NUMBERS[type(value)])
        else:
            kind = type(value).__name__
            raise NotCompilable(module, f"the result holds a {kind}")
    return tuple(outputs)


def _writes(program: ExportedProgram, module: str) -> tuple[bool, tuple[str, ...]]:
    """Whether a call writes into its own arguments, and which buffers it writes to.

    Decomposing settles it, and is paid for only where some operator writes.
    """
    writes = any(
        getattr(getattr(node.target, "_schema", None), "is_mutable", False)
        for node in program.graph.nodes
        if node.op == "call_function"
    )
    if not writes:
        return False, ()
    try:
        signature = program.run_decompositions({}).graph_signature
    except Exception as error:  # it has as many as torch's checks have
        reason = f"torch cannot follow what it writes to: {error}"
        raise NotCompilable(module, reason) from error
    kind = getattr(OutputKind, "PARAMETER_MUTATION", None)  # torch 2.9 on
    parameters = [s.target for s in signature.output_specs if s.kind is kind]
    if parameters:
        reason = f"it writes into its parameter {parameters[0]}; make it a buffer"
        raise NotCompilable(module, reason)
    written = tuple(signature.buffers_to_mutate.values())
    return bool(signature.user_inputs_to_mutate), written
