"""Bind a package to what hangs on a module, and see whether it still does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _attributes, _containers, _inductor
from aoti_ref._errors import BrokenPackage, Fault, WeightMismatch
from aoti_ref._hooks import Children, Made
from aoti_ref._weights import memory, resolve, share

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import nn

    from aoti_ref._package import Package
    from aoti_ref._weights import Memory, Slot


class Fit(NamedTuple):
    """What a module has for a package's constants, each place read once.

    Args:
        slots: Where the tensors with a name hang.
        tensors: What hung there.
        nested: What hung in containers, None where a literal stands in.
        values: Where the plain values hang.
    """

    slots: dict[str, Slot]
    tensors: dict[str, torch.Tensor]
    nested: dict[str, torch.Tensor | None]
    values: list[_attributes.Place]


def fitted(
    package: Package,
    module: nn.Module,
    *,
    offloaded: bool = False,
    seen: Collection[str] = (),
) -> Fit:
    """Hold a module to a package, without loading it.

    Args:
        package: What is to be bound.
        module: Whose tensors and plain values are to fit it.
        offloaded: Whether the weights are away and come back for the call.
        seen: The tensors in containers that it had before.

    Raises:
        WeightMismatch: With all that does not fit, by name.
    """
    direct = [c for c in package.constants if c.name not in package.places]
    values, wrong = _attributes.places(module, package.values)
    nested, unfit = _containers.resolve(
        module, package.constants, package.places, offloaded=offloaded, seen=seen
    )
    others = (*wrong, *unfit)
    slots, tensors = resolve(module, direct, others, offloaded=offloaded)
    faults: list[Fault] = []
    held = tensors | {n: t for n, t in nested.items() if t is not None}
    for tied in package.ties:
        group = [name for name in tied if name in held]  # literals are one's own
        if len({held[name].data_ptr() for name in group}) > 1:
            names = [package.places[n].spell() if n in nested else n for n in group]
            faults += (
                Fault("tied", n, f"wants one with {names[0]}") for n in names[1:]
            )
    for name in package.contract.writes:
        for other, tensor in tensors.items():
            if other != name and share(tensors[name], tensor):
                detail = f"the graph writes to it, and {other} has its memory"
                faults.append(Fault("shared", name, detail))
    if faults:
        raise WeightMismatch(type(module).__name__, len(slots), tuple(faults))
    return Fit(slots, tensors, nested, values)


class Binding:
    """A runner on the tensors of one module; a thread may go on with an older one.

    Args:
        package: What to bind.
        module: Whose tensors to bind.
        layout: What its children were at `apply`.
        seen: The tensors in containers that it had before.

    Raises:
        WeightMismatch, HookedModule, TrainingMode: As `apply` says.
    """

    def __init__(
        self,
        package: Package,
        module: nn.Module,
        layout: dict[str, Made],
        seen: Collection[str] = (),
    ) -> None:
        self._children = Children(module, layout)
        slots, named, nested, self._values = fitted(package, module, seen=seen)
        tensors = named | {n: t for n, t in nested.items() if t is not None}
        self.seen = {*seen, *(n for n, t in nested.items() if t is not None)}
        device = _device(package, tensors)
        literals = {
            c.name: package.literals[c.name].to("cpu" if c.device == "cpu" else device)
            for c in package.constants
            if c.literal and c.name not in tensors
        }
        carried = [c.name for c in package.constants if c.carried and c.name in tensors]
        over = {name: tensors[name].to(device) for name in carried}
        places = {n: memory(t) for n, t in tensors.items()}
        read = places | {n: memory(t) for n, t in {**literals, **over}.items()}
        # A runner of its own: the one before may be in use by another thread.
        self._new_runner = partial(_runner, package, device, read)
        self.runner = self._new_runner()
        self._recorded: list[_inductor.Runner] = []  # those of recorded calls
        # The runner keeps addresses, and what is there must stay while it runs.
        owners = {**tensors, **literals, **over}
        self._owners = {read[n].address: t for n, t in owners.items() if t.numel()}
        self._returned: list[int] | None = None  # outputs that are constants
        self._carried = [(tensors[name], tensors[name]._version) for name in carried]
        self._bound = [(slots[n], t, places[n]) for n, t in named.items()]
        self._nested = [
            (package.places[n], t, None if t is None else places[n])
            for n, t in nested.items()
        ]
        self.index = device.index if device.type == "cuda" else None
        contract = package.contract
        self.written = (
            tensors
            if contract.mutates_inputs
            else {name: tensors[name] for name in contract.writes}
        )

    def run(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Run the graph; constants that it returns keep their memory alive."""
        runner = self.runner
        if self.index is not None:
            _inductor.enter(self.index)
            if torch.cuda.is_current_stream_capturing():
                # A runner asks whether its call before is done, which ends a recording.
                runner = self._new_runner()
                self._recorded.append(runner)
        outputs = runner.run(inputs)
        returned = self._returned
        if returned is None:  # the same ones at every call
            storages = [(i, _storage(output)) for i, output in enumerate(outputs)]
            returned = [i for i, at in storages if at in self._owners]
            self._returned = returned
        for index in returned:
            owner = self._owners[_storage(outputs[index])]
            outputs[index] = _inductor.owned(outputs[index], owner)
        return outputs

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


def _runner(
    package: Package, device: torch.device, read: Mapping[str, Memory]
) -> _inductor.Runner:
    """Make a runner whose constants are what `read` says."""
    runner = package.runner(device)
    names = runner.get_constant_names_to_original_fqns()
    if unknown := sorted(set(names.values()) - read.keys()):
        reason = f"its library has the constant {unknown[0]}, its manifest has not"
        package.discard()
        raise BrokenPackage(package.origin, reason)
    constants = {name: _inductor.borrow(read[fqn]) for name, fqn in names.items()}
    runner.update_constant_buffer(constants, False, True, True)
    return runner


def _storage(output: torch.Tensor | None) -> int:
    """Give the address of an output's storage: where the call has a None, none."""
    return output.untyped_storage().data_ptr() if output is not None else 0


def _device(package: Package, tensors: dict[str, torch.Tensor]) -> torch.device:
    """Choose the device that a graph runs on: that of the module's tensors."""
    main = torch.device(package.device)
    device = next(
        (t.device for t in tensors.values() if t.device.type == main.type), main
    )
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
