"""Export a module for the call that was captured."""

from __future__ import annotations

import enum
import functools
import gc
import inspect
from collections import OrderedDict
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _attention, _attributes, _containers, _inductor, _tree
from aoti_ref._contract import DIMS, FIXED, FORM, MODULE, PLACES, VALUES, EnumMember
from aoti_ref._dynamic import check_ranges, grown, read_ranges, shapes
from aoti_ref._errors import AotiError, AutocastActive, TrainingMode
from aoti_ref._hooks import inner_method
from aoti_ref._locks import Lock
from aoti_ref._making_errors import NotExportable
from aoti_ref._operators import broken_promises
from aoti_ref._weights import LITERAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn
    from torch.export import ExportedProgram

    from aoti_ref._call import Call

# What an export changes in torch for its time, two at once would not put back.
_one_at_a_time = Lock()


def export(
    module: nn.Module,
    call: Call,
    *,
    dynamic: Mapping[str, Any] | None = None,
    method: str = "forward",
    attention: str | None = None,
) -> ExportedProgram:
    """Make a graph of `module` for calls like `call`.

    Every argument becomes part of the graph, those left at their defaults too:
    their values are what a later call is held to.

    Args:
        module: In eval mode. It is left as it was found and stays usable.
        call: What `capture` recorded, or anything with `args` and `kwargs`.
        dynamic: By argument name, which dimensions vary: `{"hidden_states":
            {1: Dim("tokens", min=4, max=64)}}`. A pair `(4, 64)` is a range
            of its own; one Dim in several places is one size. For a nested
            argument the table has the argument's own structure.
        method: The method that `call` was recorded from.
        attention: The backend of `scaled_dot_product_attention` for all of its calls:
            "math", "flash", "efficient" or "cudnn". It becomes part of the graph, as
            does what `torch.nn.attention.sdpa_kernel` selects, around the export or
            in the module's own code. Without either torch chooses at `compile`.

    Returns:
        The program, whose graph admits every size of every range.

    Raises:
        TrainingMode: `module`, or a part of it, is in training mode.
        AutocastActive: Autocast is on; it would be baked in.
        UnknownArgument: `dynamic` names an argument that there is not.
        BadRange: A range is none, or its example lies outside it.
        NotExportable: torch.export cannot follow the module, the call does not
            fit its signature, it sets a number that it reads, an operator breaks
            the promise of its fake kernel, or the graph reads a tensor that
            containers of the module hold twice.
        NarrowedRange: The module's own conditions leave fewer sizes than asked.
        TypeError, ValueError: `attention` is no backend.
        UnusableAttention: The device, a call's dtypes and sizes, or the module's own
            selection rule the backend out, or nothing in the module attends.
    """
    program = trace(module, call, dynamic=dynamic, method=method, attention=attention)
    if attention and not _attention.backends(program):
        name = type(module).__name__
        raise _attention.UnusableAttention(name, attention, _attention.NOWHERE)
    return program


def trace(
    module: nn.Module,
    call: Call,
    *,
    dynamic: Mapping[str, Any] | None = None,
    method: str = "forward",
    attention: str | None = None,
) -> ExportedProgram:
    """Export, whether the module attends or not."""
    name = type(module).__name__
    _refuse_modes(module, name)
    inner = inner_method(module, method)
    function = getattr(module, inner)
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*call.args, **call.kwargs)
    except TypeError as error:
        raise NotExportable(name, f"the call does not fit {method}: {error}") from error
    bound.apply_defaults()
    fixed = {n: v for n, v in bound.arguments.items() if isinstance(v, _FIXED)}
    if fixed:
        function, bound = _without(function, bound, fixed)
        signature = bound.signature
    leaves, spec = pytree.tree_flatten(dict(bound.arguments))
    held = [*module.parameters(), *module.buffers(), *leaves]
    devices = {t.device.type for t in held if isinstance(t, torch.Tensor)}
    _attention.check(attention, name, devices)
    named = _tree.spread(signature, bound.arguments)
    paths = argument_paths(named, name)
    places = read_ranges(named, dynamic or {})
    leaves = grown([_dense(leaf) for leaf in leaves], paths, places)
    bound.arguments.update(pytree.tree_unflatten(leaves, spec))
    plain = _plain(function, bound)
    # accelerate's wrapper moves tensors about, which must not become part of the graph.
    bare = (
        patch.object(module, "forward", plain)
        if inner != "forward" or fixed or plain is not function
        else nullcontext()
    )
    try:
        with (
            _one_at_a_time,
            torch.no_grad(),
            _inductor.distinct_sizes(),
            _caches_kept(),
            bare,
        ):
            with _attributes.reads(module) as read, _attention.noted():
                program = torch.export.export(
                    module,
                    bound.args,
                    bound.kwargs,
                    dynamic_shapes=shapes(leaves, paths, places),
                )
            broken = broken_promises(program, leaves)
            _attention.fix(program, attention, name)
    except AotiError:
        raise
    except Exception as error:
        raise NotExportable(name, _first_lines(error)) from error
    if read.counted:
        what = ", ".join(sorted(read.counted))
        why = f"{method} sets {what}, which it reads; keep it in a buffer"
        raise NotExportable(name, why)
    if broken:
        raise NotExportable(name, broken)
    program.graph_module.meta[PLACES] = _places(module, program)
    program.graph_module.meta[VALUES] = read.values
    program.graph_module.meta[DIMS] = check_ranges(program, places)
    program.graph_module.meta[MODULE] = name
    program.graph_module.meta[FORM] = (len(call.args), list(call.kwargs))
    program.graph_module.meta[FIXED] = {
        n: EnumMember.of(v) if isinstance(v, enum.Enum) else v for n, v in fixed.items()
    }
    return program


# Arguments that torch.export takes not at all, or not always (enums): they become
# part of the code.
_FIXED = (torch.dtype, torch.device, torch.layout, torch.memory_format, enum.Enum)


def _without(
    function: Any, bound: inspect.BoundArguments, fixed: Mapping[str, Any]
) -> tuple[Any, inspect.BoundArguments]:
    """Take arguments out of a signature and a call, and give them to every call."""
    whole = bound.signature
    rest = [p for name, p in whole.parameters.items() if name not in fixed]
    signature = whole.replace(parameters=rest)

    @functools.wraps(function)
    def narrower(*args: Any, **kwargs: Any) -> Any:
        given = {**signature.bind(*args, **kwargs).arguments, **fixed}
        ordered = {n: given[n] for n in whole.parameters if n in given}
        full = inspect.BoundArguments(whole, OrderedDict(ordered))
        return function(*full.args, **full.kwargs)

    narrower.__signature__ = signature  # type: ignore[attr-defined]
    kept = {n: v for n, v in bound.arguments.items() if n not in fixed}
    return narrower, inspect.BoundArguments(signature, OrderedDict(kept))


def _refuse_modes(module: nn.Module, name: str) -> None:
    training = tuple(n for n, child in module.named_modules() if child.training)
    if training:
        raise TrainingMode(name, training)
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            raise AutocastActive("export", device)


def _places(
    module: nn.Module, program: ExportedProgram
) -> dict[str, _containers.Place]:
    """Find where the literals of a program hang, if they hang in the module."""
    literals = {n: t for n, t in program.constants.items() if n.startswith(LITERAL)}
    found = _containers.places(module, literals)
    for several in found.values():
        if len(several) > 1:  # which of them the graph has read, nobody can tell
            spelt = " and ".join(place.spell() for place in several)
            raise NotExportable(
                type(module).__name__,
                f"{spelt} are one tensor without a name; register it as a buffer",
            )
    return {name: place for name, (place,) in found.items()}


def argument_paths(arguments: Mapping[str, Any], module: str) -> list[str]:
    """Name the leaves of all arguments, in order."""
    try:
        trees = {n: _tree.draw(pytree.tree_structure(v)) for n, v in arguments.items()}
    except TypeError as error:
        raise NotExportable(module, str(error)) from error
    return [path for name, tree in trees.items() for path in _tree.paths(tree, name)]


def _plain(function: Any, bound: inspect.BoundArguments) -> Any:
    """Give every argument a parameter of its own, where `*more` or `**named` gathers.

    torch.export cannot vary what `**named` has gathered.
    """
    once, by_name = (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    )
    gathered = False
    parameters: list[inspect.Parameter] = []
    for name, parameter in bound.signature.parameters.items():
        value = bound.arguments[name]
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            names = [f"{name}_{index}" for index in range(len(value))]
            parameters += [inspect.Parameter(n, once, default=None) for n in names]
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            parameters += [inspect.Parameter(n, by_name) for n in value]
        else:
            parameters.append(parameter)
            continue
        gathered = True
    if not gathered:
        return function

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    plain.__signature__ = bound.signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return plain


def _dense(leaf: Any) -> Any:
    """Copy an example without the gaps and overlaps that a graph would bake in."""
    return leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:6]) or type(error).__name__
    return f"{type(error).__name__}: {text}"


@contextmanager
def _caches_kept() -> Iterator[None]:
    """Empty the caches that export has filled with its own fake tensors.

    A helper under `functools.lru_cache` is called with fake tensors here, and
    would hand them to the next eager call.
    """
    before = {id(f): f.cache_info().misses for f in _cached_functions()}
    try:
        yield
    finally:
        for function in _cached_functions():
            # Misses, because a cache that is full does not grow.
            if function.cache_info().misses > before.get(id(function), 0):
                function.cache_clear()


def _cached_functions() -> list[Any]:
    """Find the cached functions of everybody but torch and what it stands on."""
    wrapper = type(functools.lru_cache(_dense))
    own = ("torch", "sympy", "mpmath", "functools", "inspect", "typing", "re")
    return [
        found
        for found in gc.get_objects()
        if type(found) is wrapper
        and (getattr(found, "__module__", "") or "").split(".")[0] not in own
    ]
