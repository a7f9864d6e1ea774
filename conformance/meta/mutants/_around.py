"""Ways to answer calls: around what the reference answers, or instead of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from aoti_ref._hooks import Children
from conformance.adapters import reference

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

Answer = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Change = Callable[[Answer, Args, Kwargs], Any]
Ranges = dict[str, Any] | None


def around(change: Change) -> Any:
    """Apply as the reference does, then let `change` make every call."""

    def apply(compiled: Any, module: nn.Module) -> None:
        reference.apply(compiled, module)
        _replace(module, change)

    return apply


def _replace(module: nn.Module, change: Change) -> None:
    answer = module.forward
    module.forward = lambda *args, **kwargs: change(answer, args, kwargs)


def checking(owner: Any, name: str, other: Any) -> Any:
    """Apply, and check calls with `other` in the place of the reference's `name`."""

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        with patch.object(owner, name, other):
            return answer(*args, **kwargs)

    return around(change)


class _Pretended(NamedTuple):
    """What stands for the compiled form of a module that the reference refuses."""


def accepts(
    kinds: tuple[type[nn.Module], ...], change: Change, *, when: Any = lambda: True
) -> dict[str, Any]:
    """Take modules of `kinds`, which the reference refuses, and answer with `change`.

    Nothing is compiled: `change` is given the eager forward.
    """

    def export(module: nn.Module, call: Any, *, dynamic: Ranges = None) -> Any:
        if isinstance(module, kinds) and when():
            return _Pretended()
        return reference.export(module, call, dynamic=dynamic)

    def compile(exported: Any, *, options: dict[str, Any] | None = None) -> Any:
        if isinstance(exported, _Pretended):
            return exported
        return reference.compile(exported, options=options)

    def save(compiled: Any, folder: Path) -> None:
        if isinstance(compiled, _Pretended):
            (folder / "pretended").touch()
        else:
            reference.save(compiled, folder)

    def load(folder: Path) -> Any:
        pretended = (folder / "pretended").exists()
        return _Pretended() if pretended else reference.load(folder)

    def apply(compiled: Any, module: nn.Module) -> None:
        if isinstance(compiled, _Pretended):
            _replace(module, change)
        else:
            reference.apply(compiled, module)

    return {
        "export": export,
        "compile": compile,
        "save": save,
        "load": load,
        "apply": apply,
    }


def results(change: Callable[[Any], Any]) -> Any:
    """Apply as the reference does, then change results before they are returned."""
    return around(lambda answer, args, kwargs: change(answer(*args, **kwargs)))


def without(owner: Any, name: str, stand_in: Callable[..., Any]) -> Any:
    """Apply with a check of the reference off, then and in every call."""
    getattr(owner, name)  # else every call would fail, and prove nothing

    def apply(compiled: Any, module: nn.Module) -> None:
        with patch.object(owner, name, stand_in):
            reference.apply(compiled, module)
        answer = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            with patch.object(owner, name, stand_in):
                return answer(*args, **kwargs)

        module.forward = forward

    return apply


def _direct_unchanged(children: Children) -> bool:
    direct = ["." not in name for name in children.layout]
    hooks = [any(children._hooks[4 * n : 4 * n + 4]) for n in range(len(direct))]
    states = [
        own.get("forward") is forward and kind is type(child) and not child.training
        for child, kind, own, forward in children._states
    ]
    whole = all(now == then for now, then in children._parents) and all(
        kind.forward is code for kind, code in children._codes
    )
    return whole and all(
        not near or (same and not hooked)
        for near, same, hooked in zip(direct, states, hooks, strict=True)
    )


# Children of children are not looked at after apply.
only_direct_children = without(Children, "unchanged", _direct_unchanged)
