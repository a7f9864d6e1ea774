"""The tensors of a module by name, and whether they fit a package's constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from aoti_ref._call import spell
from aoti_ref._errors import Fault, WeightMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn


PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
LITERAL = "lifted_tensor_"  # torch.export's name for a tensor written in code


class Constant(NamedTuple):
    """A constant of a compiled graph.

    Args:
        name: Its dotted name in the module that was exported.
        dtype: The name of its dtype, such as `bfloat16`.
        shape: Its sizes.
        stride: Its strides, in elements: the graph has them baked in.
        device: The type of the device on which the graph has it.
        literal: Whether it is written in the module's code, so that no module
            holds it and the package carries its bytes.
        carried: Whether the module may keep it on the CPU and carries it over at
            every call: the graph has a copy, made anew when the table changes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    device: str
    literal: bool = False
    carried: bool = False

    def spell(self) -> str:
        """Spell its type: `float32[2, 4]`."""
        return spell(self.dtype, self.shape)


def describe(
    name: str, tensor: torch.Tensor, device: str, *, literal: bool
) -> Constant:
    """Describe a tensor as the constant `name` of a graph on `device`."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    layout = tuple(tensor.shape), tuple(tensor.stride())
    return Constant(name, dtype, *layout, device, literal, tensor.device.type != device)


class Memory(NamedTuple):
    """What compiled code goes by when it reads a tensor."""

    address: int
    dtype: torch.dtype
    device: torch.device
    shape: torch.Size
    stride: tuple[int, ...]

    def bytes(self) -> tuple[int, int]:
        """Give the first byte and the one after the last."""
        if 0 in self.shape:
            return self.address, self.address
        steps = zip(self.shape, self.stride, strict=True)
        last = sum((size - 1) * stride for size, stride in steps)
        return self.address, self.address + (last + 1) * self.dtype.itemsize


def memory(tensor: torch.Tensor) -> Memory:
    """Note where a tensor's elements are."""
    return Memory(
        tensor.data_ptr(), tensor.dtype, tensor.device, tensor.shape, tensor.stride()
    )


def share(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors may have memory in common."""
    (start, end), (begin, stop) = memory(tensor).bytes(), memory(other).bytes()
    if tensor.is_meta or tensor.device != other.device:
        return False
    return start < stop and begin < end


class Slot(NamedTuple):
    """The place in a module where a tensor hangs: a dict, and the key in it."""

    owner: dict[str, Any]
    key: str

    def get(self) -> torch.Tensor | None:
        """Give what hangs there now."""
        found = self.owner.get(self.key)
        return found if isinstance(found, torch.Tensor) else None


def slots(module: nn.Module, names: Sequence[str]) -> dict[str, Slot]:
    """Find where the tensors `names` hang: parameters, buffers, plain attributes.

    Buffers that are not persistent count, and so do both names of tied weights.
    Names that hang nowhere are left out.
    """
    children = dict(module.named_modules(remove_duplicate=False))
    found: dict[str, Slot] = {}
    for name in names:
        path, _, key = name.rpartition(".")
        child = children.get(path)
        if child is None:
            continue
        for owner in (child._parameters, child._buffers, child.__dict__):
            if isinstance(owner.get(key), torch.Tensor):
                found[name] = Slot(owner, key)
                break
    return found


def resolve(
    module: nn.Module,
    constants: Sequence[Constant],
    others: Sequence[Fault] = (),
    *,
    offloaded: bool = False,
) -> tuple[dict[str, Slot], dict[str, torch.Tensor]]:
    """Find a tensor of `module` for every constant, and hold it to the graph.

    Each place is read once: what was found good is what is returned, whatever
    another thread hangs there meanwhile.

    Args:
        module: The module whose tensors are to be bound.
        constants: What the graph needs; literals are passed over.
        others: Faults that are known already, to be told with the rest.
        offloaded: Whether the weights are away and come back for the call, so that
            their present device says nothing.

    Returns:
        For each constant's name the place where its tensor hangs, and the tensor.

    Raises:
        WeightMismatch: With everything that is missing or does not fit.
    """
    wanted = [constant for constant in constants if not constant.literal]
    found = slots(module, [constant.name for constant in wanted])
    tensors = {n: t for n, slot in found.items() if (t := slot.get()) is not None}
    faults = [
        *others,
        *(
            f
            for constant in wanted
            for f in faults_of(constant, tensors, offloaded=offloaded)
        ),
    ]
    if faults:
        total = len(wanted) + len(others)
        raise WeightMismatch(type(module).__name__, total, tuple(faults))
    return found, tensors


def faults_of(
    constant: Constant, tensors: Mapping[str, torch.Tensor | None], *, offloaded: bool
) -> list[Fault]:
    """Say why the tensor of its name cannot fill `constant`: nothing, if it can."""
    name, want, tensor = constant.name, constant.spell(), tensors.get(constant.name)
    if tensor is None:
        return [Fault("missing", name, f"wants {want}")]
    if type(tensor) not in PLAIN:
        return [Fault("type", name, f"wants {want}, found a {type(tensor).__name__}")]
    found = spell(tensor.dtype, tensor.shape)
    faults: list[Fault] = []
    if str(tensor.dtype) != f"torch.{constant.dtype}":
        faults.append(Fault("dtype", name, f"wants {want}, found {found}"))
    faults += _misplaced(constant, tensor)
    if constant.carried and tensor.is_inference():
        detail = "wants a tensor that counts its changes, found one of inference mode"
        faults.append(Fault("inference", name, detail))
    at_home = constant.carried and tensor.device.type == "cpu"
    if not offloaded and not at_home and tensor.device.type != constant.device:
        detail = f"wants {constant.device}, found {tensor.device}"
        faults.append(Fault("device", name, detail))
    return faults


def _misplaced(constant: Constant, tensor: torch.Tensor) -> list[Fault]:
    """Say what is wrong with where the elements of a tensor are."""
    name, want, faults = constant.name, constant.spell(), list[Fault]()
    if tuple(tensor.shape) != constant.shape:
        found = spell(tensor.dtype, tensor.shape)
        faults.append(Fault("shape", name, f"wants {want}, found {found}"))
    elif tensor.layout is not torch.strided:
        detail = f"wants a strided tensor, found {tensor.layout}"
        faults.append(Fault("layout", name, detail))
    elif not _same_layout(tensor, constant):
        detail = f"wants strides {constant.stride}, found {tuple(tensor.stride())}"
        faults.append(Fault("stride", name, detail))
    elif not tensor.is_meta and _is_emptied(tensor):
        held = f"{tensor.untyped_storage().nbytes()} bytes of memory"
        faults.append(Fault("memory", name, f"wants {want}, found {held}"))
    if tensor.is_neg() or tensor.is_conj():  # a bit that compiled code does not read
        detail = "wants its values in memory, found a negated or conjugated view"
        faults.append(Fault("layout", name, detail))
    return faults


def _same_layout(tensor: torch.Tensor, constant: Constant) -> bool:
    """Whether strides agree wherever a dimension has more than one element."""
    pairs = zip(constant.shape, tensor.stride(), constant.stride, strict=True)
    return not tensor.numel() or all(a == b for size, a, b in pairs if size > 1)


def _is_emptied(tensor: torch.Tensor) -> bool:
    """Whether a tensor's storage was made smaller than what the tensor reads of it."""
    start = tensor.storage_offset() * tensor.itemsize
    first, end = memory(tensor).bytes()
    return start + end - first > tensor.untyped_storage().nbytes()
