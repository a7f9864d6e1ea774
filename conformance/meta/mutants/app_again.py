"""Mutants of the chapter APP: the second time, another model, and other moments."""

from __future__ import annotations

import contextlib
import copy
import weakref
from typing import TYPE_CHECKING, Any

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._applied import Held, afterwards, shared_twin
from conformance.meta.mutants._around import around
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Kwargs

_seen: weakref.WeakSet[nn.Module] = weakref.WeakSet()


# APP-02: a module that was seen before is taken for done, though it was restored.
def _once(compiled: Any, module: nn.Module) -> None:
    if module not in _seen:
        reference.apply(compiled, module)
        _seen.add(module)


APP_02_again = mutant("APP-02", apply=_once)


# APP-03: what was applied is taken off before anybody has looked at what comes.
def takes_off_first(compiled: Any, module: nn.Module) -> None:
    """Restore the module, then apply as the reference does."""
    with contextlib.suppress(Refused):
        reference.restore(module)
    reference.apply(compiled, module)


APP_03_takes_off = mutant("APP-03", apply=takes_off_first)


# APP-12: buffers that no state dict has are copied.
def _copies_hidden(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    answer, twin = module.forward, shared_twin(module)
    for name in {n for n, _ in twin.named_buffers()} - {*twin.state_dict()}:
        path, _, key = name.rpartition(".")
        setattr(twin.get_submodule(path), key, module.get_buffer(name).clone())
    reference.apply(compiled, twin)

    def forward(*args: Any, **kwargs: Any) -> Any:
        answer(*args, **kwargs)  # refuse what the reference refuses
        return twin.forward(*args, **kwargs)

    module.forward = forward


APP_12_hidden = mutant("APP-12", apply=_copies_hidden)


# APP-13: what is replaced is noticed once there was a call.
class _Early(Held):
    """Makes the first call with what hung on the module when it was applied to."""

    def __init__(self, compiled: Any, module: nn.Module, twin: nn.Module) -> None:
        super().__init__(twin)
        self._compiled = compiled
        self._own = weakref.ref(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result, own = super().__call__(*args, **kwargs), self._own()
        if own is not None:
            del own.forward
            reference.apply(self._compiled, own)
        return result


def _bound_at_apply(compiled: Any, module: nn.Module) -> None:
    twin = shared_twin(module)
    reference.apply(compiled, twin)
    module.forward = _Early(compiled, module, twin)


APP_13_early = mutant("APP-13", apply=_bound_at_apply)


# APP-13: the weights of apply are known, and so nothing is bound when they come back.
def _binds_strangers(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, copy.deepcopy(module))  # refuse what it refuses
    own = weakref.ref(module)
    first = [id(tensor) for tensor in module.parameters()]
    bound = [shared_twin(module)]
    reference.apply(compiled, bound[0])

    def forward(*args: Any, **kwargs: Any) -> Any:
        there: Any = own()
        if [id(tensor) for tensor in there.parameters()] != first:
            eager = shared_twin(there)
            vars(eager).pop("forward", None)
            reference.apply(compiled, eager)
            bound[0] = eager
        return bound[0].forward(*args, **kwargs)

    module.forward = forward


APP_13_back = mutant("APP-13", apply=_binds_strangers)


# APP-16: copies share the buffers, or have the weights of apply.
def _copied_by(make: Callable[[nn.Module, Any], nn.Module]) -> Any:
    """Apply as the reference does, then let `make` copy the module."""

    def change(module: nn.Module) -> None:
        own = weakref.ref(module)

        def copied(memo: dict[int, Any]) -> Any:
            there: Any = own()
            way = vars(there).pop("__deepcopy__")
            try:
                return make(there, memo)
            finally:
                there.__deepcopy__ = way

        module.__deepcopy__ = copied  # type: ignore[assignment]

    return afterwards(change)


def _with_its_buffers(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    return copy.deepcopy(module, memo | {id(b): b for b in module.buffers()})


APP_16_buffers = mutant("APP-16", apply=_copied_by(_with_its_buffers))


class _Remembering:
    """Has a copy of the module for whoever copies or pickles it."""

    def __init__(self, answer: Any, old: nn.Module) -> None:
        self.answer = answer
        self.old = old

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.answer(*args, **kwargs)


class _Copied(_Remembering):
    def __deepcopy__(self, _memo: dict[int, Any]) -> Any:
        return Held(copy.deepcopy(self.old))


class _Pickled(_Remembering):
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.answer, memo)

    def __reduce__(self) -> Any:
        return Held, (self.old,)


def _remembering(kind: type[_Remembering]) -> Any:
    def apply(compiled: Any, module: nn.Module) -> None:
        old = copy.deepcopy(module)
        for each in (module, old):
            reference.apply(compiled, each)
        module.forward = kind(module.forward, old)

    return apply


APP_16_old = mutant("APP-16", apply=_remembering(_Copied))
# APP-17: what comes out of pickle has the weights of apply.
APP_17_old = mutant("APP-17", apply=_remembering(_Pickled))


# APP-20: it keeps a copy of the buffers, and reads those of the module.
def _copies_buffers(module: nn.Module) -> None:
    own = [buffer.clone() for buffer in module.buffers()]
    weakref.finalize(module, own.clear)


APP_20_buffers = mutant("APP-20", apply=afterwards(_copies_buffers))

_last: list[Exception] = []


# APP-21: the last error is kept, and with it the frames that it came through.
def _keeps_the_error(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
    try:
        return answer(*args, **kwargs)
    except Exception as error:
        _last[:] = [error]
        raise


APP_21_error = mutant("APP-21", apply=around(_keeps_the_error))

_ended: dict[int, list[Any]] = {}


# APP-22: the first module that goes takes the library along.
def _unloads(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    gone, answer = _ended.setdefault(id(compiled), []), module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if gone:
            raise Refused("the library was unloaded")
        return answer(*args, **kwargs)

    module.forward = forward
    weakref.finalize(module, gone.append, True)


APP_22_unloads = mutant("APP-22", apply=_unloads)


# APP-24: what was applied first stays.
def _first_stays(compiled: Any, module: nn.Module) -> None:
    if "forward" not in vars(module):
        reference.apply(compiled, module)


APP_24_first = mutant("APP-24", apply=_first_stays)
