"""Put a compiled model in the place of a module's forward, and take it off again."""

from __future__ import annotations

import inspect
import weakref
from types import MethodType
from typing import TYPE_CHECKING, Any

from aoti_ref._compile import CompiledModel, Graphs, Part
from aoti_ref._errors import AotiError, Fault, NotApplied, TrainingMode
from aoti_ref._graph import Choice, Graph, Layout
from aoti_ref._hooks import Children, inner_method
from aoti_ref._locks import Lock
from aoti_ref._making_errors import FailedBlocks
from aoti_ref._regions import CompiledRegions
from aoti_ref._variant_errors import FailedVariants
from aoti_ref._variants import CompiledVariants

if TYPE_CHECKING:
    from torch import nn

_NOTHING = None  # the instance had no attribute of its own: the class's served
_exchange = Lock()  # two threads that apply or restore go one after the other


def apply(
    compiled: CompiledModel | CompiledVariants | CompiledRegions,
    module: nn.Module,
    *,
    method: str = "forward",
) -> None:
    """Make `module(...)`, or its blocks, run `compiled` with the weights of `module`.

    The weights stay where they are, on the module: no second copy is made, and
    changes to them are seen by the next call. The module is held to the package
    before anything is touched, so a refusal leaves it as it was.

    Args:
        compiled: From `compile`, `compile_variants`, `compile_regions` or `load`. It
            may be applied to many modules.
        module: In eval mode, with the weights that the graph was compiled for in
            name, dtype, shape and stride, and the plain values that its code reads.
            Its hooks keep running.
        method: The method that was exported.

    Raises:
        WeightMismatch: A weight is missing or does not fit, or a number that the
            graph has baked in is another one; all of them named.
        HookedModule: Hooks hang on its children, which compiled code would skip. It
            is raised by a call if they, or other children, come later.
        TrainingMode: `module` is in training mode.
        BadCall: The method does not take the arguments that the graph needs.
        FailedBlocks: One of these is the matter with blocks, all of them named; or
            the module has other blocks than those that were compiled.
        NoBlocks: It has no blocks, and the graphs are for blocks.
        FailedVariants: Some of several graphs do not fit, all of them named.
        MissingOperators, OtherKernel, UnusableKernel: The kernels that the graph was
            compiled with are not here, and not where `kernels` finds them; a call
            raises them too, where the module was unpickled.
    """
    if not isinstance(compiled, (CompiledModel, CompiledVariants, CompiledRegions)):
        message = f"compiled must be a CompiledModel, found {type(compiled).__name__}"
        raise TypeError(message)
    parts = compiled.parts(module)
    with _exchange:
        made = _stand_ins(parts, module, method)
        try:
            for part, applied in made:
                setattr(part, applied.__name__, applied)
        except BaseException:  # a foreign __setattr__, or an interrupt
            for part, applied in made:
                if vars(part).get(applied.__name__) is applied:
                    _take_off(part, applied.__name__, applied)
            raise


def _stand_ins(
    parts: list[Part], module: nn.Module, method: str
) -> list[tuple[nn.Module, AppliedModel]]:
    """Make what will stand in for each part, once all were found to fit."""
    made: list[tuple[nn.Module, AppliedModel]] = []
    faults: list[Fault] = []
    for name, compiled, part in parts:
        try:
            made.append((part, _stand_in(compiled, part, method)))
        except AotiError as error:  # noqa: PERF203  # all are to be named
            if not name:
                raise
            faults.append(Fault.of(name, error))
    if faults:
        what = "do not take their graphs"
        raise FailedBlocks(type(module).__name__, what, tuple(faults))
    return made


def _stand_in(compiled: Graphs, module: nn.Module, method: str) -> AppliedModel:
    children = Children(module)
    inner = inner_method(module, method)
    before = module.__dict__.get(inner, _NOTHING)
    signature = inspect.signature(getattr(module, inner))
    if isinstance(before, AppliedModel):
        before = before.before
    applied = AppliedModel(compiled, module, inner, before, signature, children.layout)
    applied.refuse_misfit(module)
    return applied


def restore(module: nn.Module, *, method: str = "forward") -> None:
    """Undo `apply`: `module`, or its blocks, run their own Python on the same weights.

    Raises:
        NotApplied: No compiled model was applied to it.
    """
    with _exchange:
        below = [part for part in module.modules() if part is not module]
        found = _applied([module], method) or _applied(below, method)
        if not found:
            raise NotApplied(type(module).__name__, method)
        for part, name, applied in found:
            _take_off(part, name, applied)


def _applied(
    modules: list[nn.Module], method: str
) -> list[tuple[nn.Module, str, AppliedModel]]:
    """Find the compiled models that stand in for modules, and as which attribute."""
    names = (method, "_old_forward") if method == "forward" else (method,)
    return [
        (module, name, found)
        for module in modules
        for name in names
        if isinstance(found := vars(module).get(name), AppliedModel)
    ]


def _take_off(module: nn.Module, name: str, applied: AppliedModel) -> None:
    if applied.before is not _NOTHING:
        setattr(module, name, applied.before)
    elif name == "_old_forward":  # accelerate's hook came after, and looks for it there
        setattr(module, name, MethodType(type(module).forward, module))
    else:
        delattr(module, name)


class AppliedModel:
    """What stands in for a module's `forward`.

    It holds the module weakly: a cycle would keep the weights alive after the
    module is gone.
    """

    def __init__(
        self,
        compiled: Graphs,
        module: nn.Module,
        inner: str,
        before: Any,
        signature: inspect.Signature,
        layout: Layout,
    ) -> None:
        self.compiled = compiled
        self.before = before
        self.__name__ = self.__qualname__ = inner
        self.__signature__ = signature
        self._module = weakref.ref(module)
        self._inner = inner
        self._layout = layout
        kind = type(module).__name__
        self.graphs = [
            Graph(model.package, kind, signature, layout) for model in compiled.models
        ]
        self._only = self.graphs[0] if len(self.graphs) == 1 else None
        self._choice = Choice(self.graphs)

    def __repr__(self) -> str:
        return f"AppliedModel({self.compiled!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        bare = [
            p.replace(annotation=inspect.Parameter.empty)  # may name local classes
            for p in self.__signature__.parameters.values()
        ]
        signature = inspect.Signature(bare)
        module, inner = self._module(), self._inner
        parts = self.compiled, module, inner, self.before, signature, self._layout
        return AppliedModel, parts

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the compiled graph with the arguments of the method it replaces.

        Raises:
            BadCall: The call breaks the contract, with all that is wrong; of variants
                each one's (NoVariant).
            WeightMismatch: The module's weights no longer fit the graph.
            HookedModule: Its children were hooked or exchanged since `apply`.
            TrainingMode, AutocastActive: Eager code would do something else.
        """
        module = self._module()
        if module is None:
            message = "the module of this compiled method is gone"
            raise ReferenceError(message)
        if module.training:
            raise TrainingMode(type(module).__name__, ("",))
        graph = self._only
        if graph is not None:
            return graph.run(module, graph.check(args, kwargs), args, kwargs)
        graph, inputs = self._choice(args, kwargs)
        return graph.run(module, inputs, args, kwargs)

    def refuse_misfit(self, module: nn.Module) -> None:
        """Hold a module to all graphs, without loading any.

        Raises:
            WeightMismatch, BadCall, FailedVariants: As `apply` says.
        """
        faults: list[Fault] = []
        for number, graph in enumerate(self.graphs):
            try:
                graph.refuse_misfit(module, self._inner)
            except AotiError as error:  # noqa: PERF203  # all are to be named
                if graph is self._only:
                    raise
                faults.append(Fault.of(f"variant {number}", error))
        if faults:
            what = "does not fit" if len(faults) == 1 else "do not fit"
            raise FailedVariants(type(module).__name__, what, tuple(faults))
