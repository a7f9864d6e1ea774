"""Weights that are made of other tensors, as torchao's quantised ones are.

A graph knows only the plain tensors inside. Each is bound from where it hangs, at
`blocks.0.proj.weight.qdata`, so that the module stays what it is; by the attribute's
name, since the order of the inner tensors is the subclass's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from aoti_ref._containers import Place
from aoti_ref._contract import PLACES
from aoti_ref._making_errors import NotCompilable
from aoti_ref._traits import inside, spell_kind
from aoti_ref._weights import PLAIN

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_PARTS = "parametrizations"  # what torch calls them: parametrizations.weight.original0


def taken_apart(program: ExportedProgram, module: str) -> ExportedProgram:
    """Give a program on plain tensors, with the places where they hang.

    Args:
        program: Any; one that has none but plain tensors comes back as it is.
        module: The module's class, for errors.

    Raises:
        NotCompilable: A weight cannot be taken apart, or torch took it apart in
            another way than it says.
    """
    wholes = {
        name: tensor
        for name, tensor in program.state_dict.items()
        if type(tensor) not in PLAIN
    }
    if not wholes:
        return program
    opaque = [n for n, t in wholes.items() if not hasattr(t, "__tensor_flatten__")]
    if opaque:
        listed = ", ".join(f"{n} is a {type(wholes[n]).__name__}" for n in opaque)
        raise NotCompilable(module, f"{listed}, and no plain tensor")
    try:
        plain: ExportedProgram = program.run_decompositions({})
    except Exception as error:
        detail = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        listed = ", ".join(wholes)
        raise NotCompilable(module, f"{listed} cannot be taken apart: {detail}") from (
            error
        )
    places = dict(program.graph_module.meta.get(PLACES, {}))
    for name, whole in wholes.items():
        child, _, key = name.rpartition(".")
        start = ("attribute", "_parameters"), ("key", key)
        if not isinstance(whole, torch.nn.Parameter):
            start = ("attribute", "_buffers"), ("key", key)
        for index, (names, tensor) in enumerate(inside(whole)):
            part = f"{_PARTS}.{key}.original{index}"
            inner = f"{child}.{part}" if child else part
            found = plain.state_dict.get(inner)
            if found is None or found.data_ptr() != tensor.data_ptr():
                raise NotCompilable(module, f"{inner} is not where {name} has it")
            steps = *start, *(("attribute", name) for name in names)
            places[inner] = Place(child, steps, spell_kind(whole))
    plain.graph_module.meta.update(program.graph_module.meta)
    plain.graph_module.meta[PLACES] = places
    return plain
