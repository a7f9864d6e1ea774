"""Mutants of the chapter CST: constants that are bound wrongly, or not told about."""

from __future__ import annotations

import os
import signal
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from diffusers.configuration_utils import FrozenDict

from aoti_ref import _attributes, _containers, _reading, _values, _weights
from aoti_ref._binding import Binding
from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import Held, as_it_was, on_a_copy, shared_twin
from conformance.meta.mutants._applied import on_a_shared_twin as on_twin
from conformance.meta.mutants._around import without
from conformance.meta.mutants._make import mutant
from conformance.models import constants, state

if TYPE_CHECKING:
    import torch
    from torch import nn


def _fixed(*names: str) -> Any:
    """Apply to a copy that has some constants as they were compiled."""

    def prepare(module: nn.Module) -> None:
        for name in names:
            then = constants.constants(name=name)
            if type(module) is type(then):
                constants.put(module, name, constants.get(then, name).data)

    return on_a_copy(prepare)


# CST-01: a kind of constant has its values of the time of compiling for ever.
CST_01_zeros = mutant("CST-01", apply=_fixed("zeros", "ones"))
CST_01_small = mutant("CST-01", apply=_fixed("factor", "linear.bias"))
CST_01_hidden = mutant("CST-01", apply=_fixed("hidden"))
CST_01_plain = mutant("CST-01", apply=_fixed("plain", "inner.plain"))
CST_01_index = mutant("CST-01", apply=_fixed("index", "mask"))

# CST-02: what is no parameter and no buffer was copied; or everything was.
CST_02_plain = mutant("CST-02", apply=on_twin)
CST_02_all = mutant("CST-02", apply=on_a_copy(as_it_was))

# CST-03: the tensors of the first call are kept, and what they hold is read.
CST_03 = mutant("CST-03", apply=on_twin)


# CST-04 to CST-09: eager code in disguise where the weights do not fit.
def _quietly(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        module.forward = module.forward


# And a refusal that does not say what is wrong.
def _mumbling(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused:
        raise Refused("the weights could not be loaded") from None


# And one that says the first thing only.
def _curtly(compiled: Any, module: nn.Module) -> None:
    try:
        reference.apply(compiled, module)
    except Refused as refusal:
        raise Refused(str(refusal).splitlines()[1]) from None


CST_04_quiet = mutant("CST-04", apply=_quietly)
CST_04_mumbles = mutant("CST-04", apply=_mumbling)
CST_05_quiet = mutant("CST-05", apply=_quietly)
CST_05_mumbles = mutant("CST-05", apply=_mumbling)
CST_06_quiet = mutant("CST-06", apply=_quietly)
CST_06_mumbles = mutant("CST-06", apply=_mumbling)
CST_08_quiet = mutant("CST-08", apply=_quietly)
CST_08_mumbles = mutant("CST-08", apply=_mumbling)
CST_09_curt = mutant("CST-09", apply=_curtly)
CST_09_quiet = mutant("CST-09", apply=_quietly)


# CST-07: strides are not looked at, not looked at again, or not named.
CST_07_strides = mutant(
    "CST-07", apply=without(_weights, "_same_layout", lambda *_: True)
)
CST_07_late = mutant("CST-07", apply=without(Binding, "holds", lambda *_: True))
CST_07_mumbles = mutant("CST-07", apply=_mumbling)


# CST-10: the bytes of a subclass are taken for its values.
def _bare(module: nn.Module) -> None:
    for name, parameter in list(module.named_parameters()):
        if isinstance(parameter, state.Quantised):
            constants.put(module, name, parameter.content.float())


def _unwraps(compiled: Any, module: nn.Module) -> None:
    if not any(isinstance(p, state.Quantised) for p in module.parameters()):
        on_twin(compiled, module)
        return
    stale = constants.constants()
    stale.load_state_dict(module.state_dict(), strict=False, assign=True)
    _bare(stale)
    reference.apply(compiled, stale)
    module.forward = Held(stale)


CST_10 = mutant("CST-10", apply=_unwraps)
CST_10_late = mutant("CST-10", apply=on_twin)


# CST-11: a name that the graph does not have is an error; or a value not a number is.
def _strictly(compiled: Any, module: nn.Module) -> None:
    known = {constant.name for constant in compiled.package.constants}
    beyond = [name for name in module.state_dict() if name not in known]
    if beyond:
        raise Refused(f"Constant not found: {beyond[0]}")
    reference.apply(compiled, module)


def _suspiciously(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if any(parameter.isnan().any() for parameter in module.parameters()):
            raise Refused("a weight is not a number")
        return answer(*args, **kwargs)

    module.forward = forward


CST_11_strict = mutant("CST-11", apply=_strictly)
CST_11_suspicious = mutant("CST-11", apply=_suspiciously)


# CST-12: the weights of before answer on; or the process ends, as it does below.
def _crashing(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        try:
            return answer(*args, **kwargs)
        except Exception:  # noqa: BLE001  # whatever it is
            return os.kill(os.getpid(), signal.SIGSEGV)

    module.forward = forward


# Or the method goes on when the memory of the weights is somebody else's.
def _dangling(compiled: Any, module: nn.Module) -> None:
    twin, alive = shared_twin(module), weakref.ref(module)
    reference.apply(compiled, twin)
    reference.apply(compiled, module)
    answer = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        serving = twin.forward if alive() is None else answer
        return serving(*args, **kwargs)

    module.forward = forward
    weakref.finalize(module, _spoil, list(module.parameters()))


def _spoil(parameters: list[torch.Tensor]) -> None:
    for parameter in parameters:
        parameter.data.fill_(1e30)


CST_12_dangling = mutant("CST-12", apply=_dangling)
CST_12_stale = mutant("CST-12", apply=on_a_copy(as_it_was))
CST_12_crash = mutant("CST-12", apply=_crashing)


def _loosely(found: Any, wanted: Any) -> bool:
    plain = isinstance(wanted, (bool, int, float))
    return bool(found == wanted) if plain else _same(found, wanted)


_same = _values.same


def _reading_only(kinds: tuple[type, ...]) -> Any:
    """What objects of other kinds hold is not noted."""

    def export(module: nn.Module, call: Any, *, dynamic: Any = None) -> Any:
        with patch.object(_reading, "_can_follow", lambda v: type(v) in kinds):
            return reference.export(module, call, dynamic=dynamic)

    return export


# CST-22: numbers are not looked at; or at apply only.
CST_22_blind = mutant(
    "CST-22", apply=without(_attributes.Place, "holds", lambda _: True)
)
CST_22_once = mutant("CST-22", apply=on_twin)

# Or those that a class, or an object, has are overlooked; or they are held with `==`.
CST_22_class = mutant(
    "CST-22",
    apply=without(_attributes.Place, "get", lambda p: p.owner.get(p.key, p.value)),
)
CST_22_object = mutant(
    "CST-22", apply=without(_values, "_same_object", lambda *_: True)
)
CST_22_spelt = mutant("CST-22", apply=without(_values, "_dumped", lambda _: ""))
CST_22_options = mutant(
    "CST-22",
    own_cache="options",
    export=_reading_only((FrozenDict, SimpleNamespace)),
)
CST_22_loose = mutant("CST-22", apply=without(_values, "same", _loosely))


# CST-23: a tensor in a container is a literal, of which the package has the bytes.
def _overlooks(module: nn.Module, call: Any, *, dynamic: Any = None) -> Any:
    with patch.object(_containers, "places", lambda *_: {}):
        return reference.export(module, call, dynamic=dynamic)


CST_23_overlooked = mutant("CST-23", export=_overlooks)
CST_23_stale = mutant("CST-23", apply=on_twin)


# Or only one in a container of a module's is not.
def _near(module: nn.Module, wanted: Any, places: Any, **how: Any) -> Any:
    near = {name: place for name, place in places.items() if len(place.steps) <= 2}
    return _resolve(module, wanted, near, **how)


_resolve = _containers.resolve
CST_23_near = mutant("CST-23", apply=without(_containers, "resolve", _near))
