"""Hooks that stand between a caller and a module's own `forward`.

Offloading (accelerate, diffusers) wraps `forward` on the instance, and torch keeps
hooks beside it. Compiled code replaces the innermost `forward`, so the hooks of
the module itself keep running; those of its children would be skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aoti_ref._errors import HookedModule

if TYPE_CHECKING:
    from torch import nn

_TORCH_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def inner_method(module: nn.Module, method: str) -> str:
    """Name the attribute that holds the module's own `method`, under the hooks.

    accelerate moves it to `_old_forward` and looks it up there at every call.

    Raises:
        HookedModule: diffusers' hooks (group offloading, caching, layerwise
            casting) hold the function itself, out of reach.
    """
    if method != "forward":
        return method
    registry = getattr(module, "_diffusers_hook", None)
    names = tuple(getattr(registry, "hooks", None) or ())
    if names:
        raise HookedModule(type(module).__name__, tuple(f"itself: {n}" for n in names))
    accelerated = hasattr(module, "_hf_hook") and hasattr(module, "_old_forward")
    return "_old_forward" if accelerated else method


def refuse_inner_hooks(module: nn.Module) -> None:
    """Refuse a module whose children have hooks, all of them by name.

    Raises:
        HookedModule: As it says.
    """
    found: list[str] = []
    for name, child in module.named_modules():
        if child is module:
            continue
        found += [f"{name}: {kind}" for kind in _TORCH_HOOKS if getattr(child, kind)]
        if hasattr(child, "_hf_hook"):
            found.append(f"{name}: {type(child._hf_hook).__name__}")
        registry = getattr(child, "_diffusers_hook", None)
        found += [f"{name}: {hook}" for hook in getattr(registry, "hooks", None) or ()]
    if found:
        raise HookedModule(type(module).__name__, tuple(found))
