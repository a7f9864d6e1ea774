"""Bind a package to what hangs on a module, and see whether it still does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _attributes, _containers, _inductor
from aoti_ref._errors import Fault, WeightMismatch
from aoti_ref._hooks import Children
from aoti_ref._weights import memory, resolve, share

if TYPE_CHECKING:
    from torch import nn

    from aoti_ref._package import Package
    from aoti_ref._weights import Slot


def fitted(
    package: Package, module: nn.Module, *, offloaded: bool = False
) -> dict[str, Slot]:
    """Hold a module to a package, without loading it.

    Args:
        package: What is to be bound.
        module: Whose tensors and plain values are to fit it.
        offloaded: Whether the weights are away and come back for the call.

    Returns:
        The places of the constants that have a name.

    Raises:
        WeightMismatch: With all that does not fit, by name.
    """
    _, others = _attributes.places(module, package.values)
    _, nested = _containers.resolve(
        module, package.constants, package.places, offloaded=offloaded
    )
    others = (*others, *nested)
    slots = resolve(module, package.constants, others, offloaded=offloaded)
    tensors = _tensors(slots)
    faults: list[Fault] = []
    for group in package.ties:
        if len({tensors[name].data_ptr() for name in group}) > 1:
            faults += (
                Fault("tied", n, f"wants one with {group[0]}") for n in group[1:]
            )
    for name in package.contract.writes:
        for other, tensor in tensors.items():
            if other != name and share(tensors[name], tensor):
                detail = f"the graph writes to it, and {other} has its memory"
                faults.append(Fault("shared", name, detail))
    if faults:
        raise WeightMismatch(type(module).__name__, len(slots), tuple(faults))
    return slots


class Binding:
    """A runner on the tensors of one module; a thread may go on with an older one.

    Args:
        package: What to bind.
        module: Whose tensors to bind.
        layout: What its children were at `apply`.

    Raises:
        WeightMismatch, HookedModule, TrainingMode: As `apply` says.
    """

    def __init__(
        self, package: Package, module: nn.Module, layout: dict[str, tuple[type, bool]]
    ) -> None:
        self._children = Children(module, layout)
        slots = fitted(package, module)
        nested, _ = _containers.resolve(module, package.constants, package.places)
        named = _tensors(slots)
        tensors = named | {n: t for n, t in nested.items() if t is not None}
        device = _device(package, named)
        literals = {
            c.name: package.literals[c.name].to("cpu" if c.device == "cpu" else device)
            for c in package.constants
            if c.literal and c.name not in tensors
        }
        carried = [c.name for c in package.constants if c.carried and c.name in tensors]
        over = {name: tensors[name].to(device) for name in carried}
        held = {n: t.detach() for n, t in {**tensors, **over}.items()} | literals
        # A runner of its own: the one before may be in use by another thread.
        self.runner = _inductor.new_runner(package.library(), device)
        names = self.runner.get_constant_names_to_original_fqns()
        constants = {name: held[fqn] for name, fqn in names.items()}
        self.runner.update_constant_buffer(constants, False, True, True)
        self._held = literals | over  # the runner keeps addresses, not tensors
        self._carried = [(tensors[name], tensors[name]._version) for name in carried]
        self._bound = [(slots[n], t, memory(t)) for n, t in named.items()]
        self._nested = [
            (package.places[n], t, None if t is None else memory(t))
            for n, t in nested.items()
        ]
        self._values, _ = _attributes.places(module, package.values)
        self.index = device.index if device.type == "cuda" else None
        contract = package.contract
        self.written = (
            tensors
            if contract.mutates_inputs
            else {name: tensors[name] for name in contract.writes}
        )

    def holds(self, module: nn.Module) -> bool:
        """Whether all that was bound hangs on `module` as it did."""
        # Loops, not `all`: a generator costs more than what it would look at.
        if not self._children.unchanged():
            return False
        # An address alone may have been freed and given to a tensor of another type.
        for (owner, key), tensor, (address, dtype, _, shape, stride) in self._bound:
            if (
                owner.get(key) is not tensor
                or tensor.data_ptr() != address
                or tensor.dtype is not dtype
                or tensor.shape != shape
                or tensor.stride() != stride
            ):
                return False
        for tensor, version in self._carried:
            if tensor._version != version:
                return False
        for place in self._values:
            if not place.holds():
                return False
        for way, then, at in self._nested:
            now = way.get(module)
            if now is not then or (now is not None and memory(now) != at):
                return False
        return True

    def shared(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Fault, ...]:
        """Find arguments in the memory of constants, where the graph writes to one."""
        leaves = pytree.tree_leaves((args, kwargs))
        given = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        return tuple(
            Fault("alias", name, "the graph writes, and an argument has its memory")
            for name, constant in self.written.items()
            if any(share(constant, tensor) for tensor in given)
        )


def _tensors(slots: dict[str, Slot]) -> dict[str, torch.Tensor]:
    return {n: t for n, slot in slots.items() if (t := slot.get()) is not None}


def _device(package: Package, tensors: dict[str, torch.Tensor]) -> torch.device:
    """Choose the device that a graph runs on: that of the module's tensors."""
    main = torch.device(package.device)
    device = next(
        (t.device for t in tensors.values() if t.device.type == main.type), main
    )
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
