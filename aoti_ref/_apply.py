"""Put a compiled model in the place of a module's forward, and take it off again."""

from __future__ import annotations

import inspect
import threading
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _attributes, _containers, _inductor, _tree
from aoti_ref._check import Checker
from aoti_ref._compile import CompiledModel
from aoti_ref._contract import PYTHON_NUMBERS, ValueSpec
from aoti_ref._errors import (
    BadCall,
    BadResult,
    Fault,
    NotApplied,
    TrainingMode,
    WeightMismatch,
)
from aoti_ref._hooks import Children, inner_method
from aoti_ref._weights import Memory, Slot, memory, resolve, share

if TYPE_CHECKING:
    from torch import nn

# Where a tensor hangs, the tensor, and what its memory was when it was bound.
_Bound = tuple[Slot, torch.Tensor, Memory]
_Nested = tuple[_containers.Place, torch.Tensor | None, Memory | None]
_NOTHING = None  # the instance had no attribute of its own: the class's served


def apply(
    compiled: CompiledModel, module: nn.Module, *, method: str = "forward"
) -> None:
    """Make `module(...)` run `compiled` with the weights of `module`.

    The weights stay where they are, on the module: no second copy is made, and
    changes to them are seen by the next call. The module is held to the package
    before anything is touched, so a refusal leaves it as it was.

    Args:
        compiled: From `compile` or `load`. It may be applied to many modules.
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
    """
    if not isinstance(compiled, CompiledModel):
        message = f"compiled must be a CompiledModel, found {type(compiled).__name__}"
        raise TypeError(message)
    children = Children(module)
    inner = inner_method(module, method)
    before = module.__dict__.get(inner, _NOTHING)
    signature = inspect.signature(getattr(module, inner))
    if isinstance(before, AppliedModel):
        before = before.before
    applied = AppliedModel(compiled, module, inner, before, signature, children.layout)
    applied.refuse_misfit(module)
    setattr(module, inner, applied)


def restore(module: nn.Module, *, method: str = "forward") -> None:
    """Undo `apply`: `module` runs its own Python again, on the same weights.

    Raises:
        NotApplied: No compiled model was applied to it.
    """
    inner = inner_method(module, method)
    applied = module.__dict__.get(inner)
    if not isinstance(applied, AppliedModel):
        raise NotApplied(type(module).__name__, method)
    if applied.before is _NOTHING:
        delattr(module, inner)
    else:
        setattr(module, inner, applied.before)


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
        self._lock = threading.Lock()
        self._runner: _inductor.Runner | None = None
        self._children: Children | None = None
        self._bound: dict[str, _Bound] = {}
        self._values: list[_attributes.Place] = []
        self._nested: list[_Nested] = []

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
        runner = self._bind(module)
        self._refuse_shared(args, kwargs)
        return self._structured(runner.run(inputs))

    def refuse_misfit(self, module: nn.Module) -> None:
        """Hold a module to the package, without loading it.

        Raises:
            WeightMismatch, BadCall: As `apply` says.
        """
        unknown = self._check.unknown_arguments()
        if unknown:
            detail = f"{self._inner} does not take it"
            faults = tuple(Fault("argument", name, detail) for name in unknown)
            raise BadCall(type(module).__name__, faults)
        self._slots(module, offloaded=self._inner == "_old_forward")

    def _slots(self, module: nn.Module, *, offloaded: bool = False) -> dict[str, Slot]:
        package = self.compiled.package
        _, others = _attributes.places(module, package.values)
        _, nested = _containers.resolve(
            module, package.constants, package.places, offloaded=offloaded
        )
        others = (*others, *nested)
        slots = resolve(module, package.constants, others, offloaded=offloaded)
        for group in package.ties:
            tensors = {name: slots[name].get() for name in group}
            if len({t.data_ptr() for t in tensors.values() if t is not None}) > 1:
                faults = tuple(
                    Fault("tied", n, f"wants one with {group[0]}") for n in group[1:]
                )
                raise WeightMismatch(type(module).__name__, len(slots), faults)
        self._refuse_overlaps(module, slots)
        return slots

    def _refuse_overlaps(self, module: nn.Module, slots: dict[str, Slot]) -> None:
        """Hold the buffers that the graph writes to memory of their own."""
        tensors = {n: t for n, slot in slots.items() if (t := slot.get()) is not None}
        faults = tuple(
            Fault("shared", name, f"the graph writes to it, and {other} has its memory")
            for name in self._contract.writes
            for other, tensor in tensors.items()
            if other != name and share(tensors[name], tensor)
        )
        if faults:
            raise WeightMismatch(type(module).__name__, len(slots), faults)

    def _refuse_shared(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse arguments in the memory of constants, where the graph writes to one.

        Raises:
            BadCall: With the constants by name.
        """
        contract = self._contract
        names = self._bound if contract.mutates_inputs else contract.writes
        if not names:
            return
        given = [x for x in pytree.tree_leaves((args, kwargs)) if _is_tensor(x)]
        faults = tuple(
            Fault("alias", name, "the graph writes, and an argument has its memory")
            for name in names
            if any(share(self._bound[name][1], tensor) for tensor in given)
        )
        if faults:
            raise BadCall(self._check.module, faults)

    def _bind(self, module: nn.Module) -> _inductor.Runner:
        """Give the runner, bound to the tensors that hang on the module now."""
        runner = self._runner
        if runner is not None and self._still_bound(module):
            return runner
        with self._lock:
            if self._runner is None or not self._still_bound(module):
                self._rebind(module)
            assert self._runner is not None  # noqa: S101  # for mypy
            return self._runner

    def _still_bound(self, module: nn.Module) -> bool:
        # An address alone may have been freed and given to a tensor of another type.
        return (
            self._children is not None
            and self._children.unchanged()
            and all(
                owner.get(key) is tensor and memory(tensor) == place
                for (owner, key), tensor, place in self._bound.values()
            )
            and all(place.holds() for place in self._values)
            and all(
                (now := place.get(module)) is then
                and (now is None or memory(now) == at)
                for place, then, at in self._nested
            )
        )

    def _rebind(self, module: nn.Module) -> None:
        children = Children(module, self._layout)
        slots = self._slots(module)
        tensors = {n: t for n, slot in slots.items() if (t := slot.get()) is not None}
        package = self.compiled.package
        main = torch.device(package.device)
        devices = [t.device for t in tensors.values() if t.device.type == main.type]
        device = devices[0] if devices else main
        nested, _ = _containers.resolve(module, package.constants, package.places)
        literals = {
            c.name: package.literals[c.name].to(
                device if c.device == main.type else "cpu"
            )
            for c in package.constants
            if c.literal and nested.get(c.name) is None
        }
        tensors |= {n: t for n, t in nested.items() if t is not None}
        held = {name: tensor.detach() for name, tensor in tensors.items()} | literals
        # A runner of its own: the one before may be in use by another thread.
        runner = _inductor.new_runner(package.library(), device)
        names = runner.get_constant_names_to_original_fqns()
        constants = {name: held[fqn] for name, fqn in names.items()}
        runner.update_constant_buffer(constants, False, True, True)
        self._literals = literals  # the runner keeps addresses, not tensors
        self._children = children
        self._bound = {n: (slots[n], tensors[n], memory(tensors[n])) for n in slots}
        self._nested = [
            (package.places[n], t, None if t is None else memory(t))
            for n, t in nested.items()
        ]
        self._values, _ = _attributes.places(module, package.values)
        self._runner = runner

    def _structured(self, outputs: list[torch.Tensor]) -> Any:
        """Give flat outputs eager's structure, and Python numbers back their type."""
        wanted = self._contract.outputs
        leaves: list[Any] = []
        for index, (want, found) in enumerate(zip(wanted, outputs, strict=True)):
            if isinstance(want, ValueSpec):
                leaves.append(want.value)
            elif want in PYTHON_NUMBERS.values():
                leaves.append(found.item())
            elif str(found.dtype) != f"torch.{want}":
                detail = f"output {index} should be {want}, came as {found.dtype}"
                raise BadResult(self._check.module, detail)
            else:
                leaves.append(found)
        return pytree.tree_unflatten(leaves, self._result)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)
