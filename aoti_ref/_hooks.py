"""Hooks that stand between a caller and a module's own `forward`, and its children.

Offloading (accelerate, diffusers) wraps `forward` on the instance, and torch keeps
hooks beside it. Compiled code replaces the innermost `forward`, so the hooks of
the module itself keep running; those of its children would be skipped. The same
goes for children that are exchanged, as adapters exchange them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aoti_ref import _values
from aoti_ref._errors import HookedModule, TrainingMode

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


# What a child is: its class, whether it has a forward of its own, and its class's.
Made = tuple[type, bool, str]


def _code(kind: Any) -> str:
    form = _values.written(kind.forward)
    return "" if form is _values.GONE else _values.spell(form)


class Children:
    """What hangs below a module, to see at every call whether it still does.

    A look costs 0.1 microseconds for each child.

    Args:
        module: In eval mode, with children that have no hooks.
        layout: What its children were at `apply`, where that was before.

    Raises:
        HookedModule: A child has hooks, or is not what it was: all by name.
        TrainingMode: `module`, or a part of it, is in training mode.
    """

    def __init__(
        self, module: nn.Module, layout: dict[str, Made] | None = None
    ) -> None:
        name = type(module).__name__
        _refuse_inner_hooks(module)
        below = dict(module.named_modules(remove_duplicate=False))
        training = tuple(n for n, part in below.items() if part.training)
        self._parents = [(p._modules, dict(p._modules)) for p in below.values()]
        below.pop("")
        self.layout = {
            n: (type(c), "forward" in vars(c), _code(type(c))) for n, c in below.items()
        }
        if layout is not None and layout != self.layout:
            raise HookedModule(name, _changes(layout, self.layout))
        if training:
            raise TrainingMode(name, training)
        self._hooks = [
            getattr(c, kind) for c in below.values() for kind in _TORCH_HOOKS
        ]
        # Of the classes, too: whoever patches one patches all children of it.
        self._codes = [(k, k.forward) for k in {type(c) for c in below.values()}]
        self._states = [
            (child, type(child), vars(child), vars(child).get("forward"))
            for child in below.values()
        ]

    def unchanged(self) -> bool:
        """Whether no child was exchanged, hooked, patched or set to training."""
        return (
            not any(self._hooks)
            and all(kind.forward is code for kind, code in self._codes)
            and all(now == then for now, then in self._parents)
            and all(
                own.get("forward") is forward
                and child.__class__ is kind
                and not own.get("training")
                for child, kind, own, forward in self._states
            )
        )


def _changes(before: dict[str, Made], after: dict[str, Made]) -> tuple[str, ...]:
    found: list[str] = []
    for name in {**before, **after}:
        old, new = (side.get(name, (None, False, "")) for side in (before, after))
        if old[0] is not new[0]:
            then, now = (kind.__name__ if kind else "none" for kind in (old[0], new[0]))
            found.append(f"{name}: {now} for {then}")
        elif old != new:
            found.append(f"{name}: another forward")
    return tuple(found)


def _refuse_inner_hooks(module: nn.Module) -> None:
    """Refuse a module whose children have hooks, all of them by name."""
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
