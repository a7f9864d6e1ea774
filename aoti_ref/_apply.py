"""Put a compiled model in the place of a module's forward, and take it off again."""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _kernels, _tree
from aoti_ref._binding import Binding, fitted
from aoti_ref._check import Checker
from aoti_ref._compile import CompiledModel, Part
from aoti_ref._contract import ValueSpec
from aoti_ref._errors import (
    AotiError,
    BadCall,
    BadResult,
    FailedBlocks,
    Fault,
    NotApplied,
    TrainingMode,
)
from aoti_ref._hooks import Children, inner_method
from aoti_ref._locks import Lock
from aoti_ref._regions import CompiledRegions

if TYPE_CHECKING:
    from torch import nn

_NOTHING = None  # the instance had no attribute of its own: the class's served
_exchange = Lock()  # two threads that apply or restore go one after the other


def apply(
    compiled: CompiledModel | CompiledRegions,
    module: nn.Module,
    *,
    method: str = "forward",
) -> None:
    """Make `module(...)`, or its blocks, run `compiled` with the weights of `module`.

    The weights stay where they are, on the module: no second copy is made, and
    changes to them are seen by the next call. The module is held to the package
    before anything is touched, so a refusal leaves it as it was.

    Args:
        compiled: From `compile`, `compile_regions` or `load`. It may be applied to
            many modules.
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
        MissingOperators, OtherKernel, UnusableKernel: The kernels that the graph was
            compiled with are not here, and not where `kernels` finds them; a call
            raises them too, where the module was unpickled.
    """
    if not isinstance(compiled, (CompiledModel, CompiledRegions)):
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
            detail = " ".join(line.strip() for line in str(error).splitlines())
            faults.append(Fault(type(error).__name__, name, detail))
    if faults:
        what = "do not take their graphs"
        raise FailedBlocks(type(module).__name__, what, tuple(faults))
    return made


def _stand_in(compiled: CompiledModel, module: nn.Module, method: str) -> AppliedModel:
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
    if applied.before is _NOTHING:
        delattr(module, name)
    else:
        setattr(module, name, applied.before)


class AppliedModel:
    """What stands in for a module's `forward`.

    It holds the module weakly: a cycle would keep the weights alive after the
    module is gone.
    """

    def __init__(
        self,
        compiled: CompiledModel,
        module: nn.Module,
        inner: str,
        before: Any,
        signature: inspect.Signature,
        layout: dict[str, tuple[type, bool]],
    ) -> None:
        self.compiled = compiled
        self.before = before
        self.__name__ = self.__qualname__ = inner
        self.__signature__ = signature
        self._module = weakref.ref(module)
        self._inner = inner
        self._layout = layout
        self._contract = compiled.package.contract
        self._check = Checker(self._contract, signature, type(module).__name__)
        self._result = _tree.load_result(self._contract.result)
        self._bare = self._result.is_leaf()
        # Unflattening takes pytree microseconds, and most results are a tuple.
        self._plain_tuple = self._result.type is tuple and all(
            child.is_leaf() for child in _tree.children_of(self._result)
        )
        # A dtype for a tensor, None for a Python number.
        self._outputs = [
            out if isinstance(out, ValueSpec) else getattr(torch, out, None)
            for out in self._contract.outputs
        ]
        only = self._outputs[0] if self._bare else None
        self._single = only if isinstance(only, torch.dtype) else None
        self._lock = Lock()
        self._binding: Binding | None = None

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
            BadCall: The call breaks the contract, with all that is wrong.
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
        inputs = self._check(args, kwargs)
        binding = self._binding
        if binding is None or not binding.holds(module):
            binding = self._bind(module)
        if binding.index is not None:
            self._refuse_elsewhere(inputs, binding.index)
        if binding.written and (faults := binding.shared(args, kwargs)):
            raise BadCall(self._check.module, faults)
        return self._structured(binding.run(inputs))

    def _refuse_elsewhere(self, inputs: list[torch.Tensor], index: int) -> None:
        """Refuse tensors on another GPU than the weights: the graph would not look."""
        faults = tuple(
            Fault("device", path, f"wants cuda:{index}, found {tensor.device}")
            for tensor, path in zip(inputs, self._check.tensor_paths(), strict=True)
            if tensor.is_cuda and tensor.device.index != index
        )
        if faults:
            raise BadCall(self._check.module, faults)

    def refuse_misfit(self, module: nn.Module) -> None:
        """Hold a module to the package, without loading it.

        Raises:
            WeightMismatch, BadCall, MissingOperators, OtherKernel: As `apply` says.
        """
        unknown = self._check.unknown_arguments()
        if unknown:
            detail = f"{self._inner} does not take it"
            faults = tuple(Fault("argument", name, detail) for name in unknown)
            raise BadCall(type(module).__name__, faults)
        package = self.compiled.package
        _kernels.provide(type(module).__name__, package.ops, package.kernels)
        offloaded = self._inner == "_old_forward"
        fitted(package, module, offloaded=offloaded)

    def _bind(self, module: nn.Module) -> Binding:
        """Bind to the tensors that hang on the module now, one thread for all."""
        with self._lock:
            if self._binding is None or not self._binding.holds(module):
                package = self.compiled.package
                # Where this was unpickled, nobody has loaded them yet.
                _kernels.provide(self._check.module, package.ops, package.kernels)
                self._binding = Binding(package, module, self._layout)
            return self._binding

    def _structured(self, outputs: list[torch.Tensor]) -> Any:
        """Give flat outputs eager's structure, and Python numbers back their type."""
        if self._single is not None and outputs[0].dtype is self._single:
            return outputs[0]  # a loop costs more
        leaves: list[Any] = []
        for want, found in zip(self._outputs, outputs, strict=True):
            if isinstance(want, ValueSpec):
                leaves.append(want.value)
            elif want is None:
                leaves.append(found.item())
            elif found.dtype is not want:
                name = f"output {len(leaves)}"
                detail = f"{name} should be {want}, came as {found.dtype}"
                raise BadResult(self._check.module, detail)
            else:
                leaves.append(found)
        if self._bare:
            return leaves[0]
        if self._plain_tuple:
            return tuple(leaves)
        return pytree.tree_unflatten(leaves, self._result)
