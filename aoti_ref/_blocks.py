"""Which children of a module are its repeated blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from aoti_ref._making_errors import NoBlocks

if TYPE_CHECKING:
    from collections.abc import Sequence

_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def spelled(wanted: Sequence[str | type[nn.Module]] | None) -> tuple[str, ...] | None:
    """Name the blocks that are wanted, so that another process knows them too."""
    if wanted is None:
        return None
    if isinstance(wanted, str):
        message = f"blocks must be a list of names or classes, found {wanted!r}"
        raise TypeError(message)
    return tuple(w if isinstance(w, str) else w.__name__ for w in wanted)


def find(module: nn.Module, wanted: tuple[str, ...] | None) -> dict[str, nn.Module]:
    """Find the blocks of `module`, by name and in its order.

    A block within a block is part of that.

    Args:
        module: A module with blocks in it.
        wanted: Names of classes, or dotted names of blocks or of the list that holds
            them. Without, those of diffusers' `_repeated_blocks`, or else the
            members of lists in which a class stands more than once.

    Raises:
        NoBlocks: A name that is wanted matches nothing, or nothing is repeated.
    """
    below = {name: part for name, part in module.named_modules() if name}
    if wanted is not None:
        chosen: set[str] = set()
        missing: list[str] = []
        for each in wanted:
            found = _named(below, each)
            chosen |= found
            missing += [] if found else [each]
        if missing or not chosen:
            raise _none(module, below, tuple(missing))
    else:
        repeated = tuple(getattr(module, "_repeated_blocks", None) or ())
        chosen = set().union(*(_named(below, each) for each in repeated))
        if repeated and not chosen:
            raise _none(module, below, repeated)
        chosen = chosen or _repeated(below)
        if not chosen:
            raise _none(module, below, ())
    outermost = [n for n in below if n in chosen and not _inside(n, chosen)]
    return {name: below[name] for name in outermost}


def _none(
    module: nn.Module, below: dict[str, nn.Module], missing: tuple[str, ...]
) -> NoBlocks:
    known = sorted({type(part).__name__ for part in below.values()})
    return NoBlocks(type(module).__name__, missing, tuple(known))


def _named(below: dict[str, nn.Module], wanted: str) -> set[str]:
    part = below.get(wanted)
    if isinstance(part, _CONTAINERS):
        return {f"{wanted}.{name}" for name, _ in part.named_children()}
    if part is not None:
        return {wanted}
    return {name for name, each in below.items() if type(each).__name__ == wanted}


def _repeated(below: dict[str, nn.Module]) -> set[str]:
    found: set[str] = set()
    for name, part in below.items():
        if isinstance(part, nn.ModuleList):
            kinds = [type(child) for child in part]
            found |= {
                f"{name}.{index}"
                for index, kind in enumerate(kinds)
                if kinds.count(kind) > 1
            }
    return found & below.keys()


def _inside(name: str, others: set[str]) -> bool:
    parents = name.split(".")[:-1]
    return any(".".join(parents[: end + 1]) in others for end in range(len(parents)))
