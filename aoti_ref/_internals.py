"""Private parts of torch itself; those of Inductor are in `_inductor`.

Read against torch 2.10 to 2.13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _pytree as pytree
from torch.utils._device import DeviceContext

if TYPE_CHECKING:
    from collections.abc import Callable


def default_device() -> torch.device | None:
    """Say where new tensors are; `torch.get_default_device` may start CUDA for it."""
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    found = [mode.device for mode in modes if isinstance(mode, DeviceContext)]
    return found[0] if found else None


def followed() -> bool:
    """Whether torch.func transforms what is called, or forward-mode AD follows it."""
    transforms = torch._C._functorch.peek_interpreter_stack() is not None
    return transforms or forward_ad._current_level >= 0


def is_transformed(tensor: torch.Tensor) -> bool:
    """Whether torch.func has put something of its own in the place of a tensor."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def has_tangent(tensor: torch.Tensor) -> bool:
    """Whether forward-mode AD follows a tensor."""
    unpack: Any = forward_ad.unpack_dual
    return forward_ad._current_level >= 0 and unpack(tensor).tangent is not None


def operators() -> set[str]:
    """Name every operator that is registered in this process, as `space::name`."""
    return {name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names()}


def cuda_started() -> bool:
    """Whether this process, or the one that it was forked from, has started CUDA."""
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return bool(started or torch.cuda._is_in_bad_fork())


def on_cuda_start(note: Callable[[], None]) -> None:
    """Have `note` called by what starts CUDA in this process; start nothing."""
    torch.cuda._lazy_call(note)  # type: ignore[no-untyped-call]


def untyped(storage: Any) -> tuple[torch.UntypedStorage, torch.dtype | None]:
    """Give the bytes under a storage, and its dtype if it has one."""
    if isinstance(storage, torch.UntypedStorage):
        return storage, None
    return storage._untyped_storage, storage.dtype


def typed(storage: torch.UntypedStorage, dtype: torch.dtype | None) -> Any:
    """Undo `untyped`; tensors of new dtypes want a typed one too, of any dtype."""
    kind: Any = torch.storage.TypedStorage
    return kind(wrap_storage=storage, dtype=dtype or torch.uint8, _internal=True)


def is_registered(operator: str) -> bool:
    """Whether an operator such as `mine::attention` is known in this process."""
    return bool(torch._C._jit_get_schemas_for_operator(operator))


def spell_spec(spec: pytree.TreeSpec) -> str:
    """Write a structure as a library's call spec does."""
    text: str = pytree.treespec_dumps(spec)
    return text


def dtype_number(dtype: torch.dtype) -> int:
    """Give the number that libraries have for a dtype (c10::ScalarType); -1 if none."""
    known = {torch.bool: 11, torch.bfloat16: 15}
    names = "uint8 int8 int16 int32 int64 float16 float32 float64"
    known |= {getattr(torch, name): at for at, name in enumerate(names.split())}
    return known.get(dtype, -1)
