"""Mutants of the chapter PRC: results, company, what is left, and inheritance."""

from __future__ import annotations

import atexit
import copy
import os
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import torch

import aoti_ref
from aoti_ref import _serving
from conformance.adapters import reference
from conformance.meta.mutants._lenient import stateful
from conformance.meta.mutants._make import mutant
from conformance.meta.mutants.prc import around_calls, in_the_child

if TYPE_CHECKING:
    from torch import nn

    from conformance.meta.mutants._around import Answer, Args, Change, Kwargs
    from conformance.meta.mutants.prc import Job


# PRC-07: copies apart what is one; strides or signs are gone; segments stay.
def _rebuilt(change: Any) -> Any:
    """Pass every tensor of a result on its own to `change`, in lists and fields."""

    def through(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return change(value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(through, value))
        if hasattr(value, "__dict__"):
            value = copy.copy(value)
            vars(value).update({k: through(v) for k, v in vars(value).items()})
        return value

    return around_calls(lambda job, args, kwargs: through(job(*args, **kwargs)))


def _known_dtypes_only(tensor: torch.Tensor) -> torch.Tensor:
    new = tensor.is_floating_point() and tensor.dtype.itemsize == 1
    return tensor.float() if new else tensor


def _in_a_segment(tensor: torch.Tensor) -> torch.Tensor:
    path = tempfile.mkstemp(prefix="torch_", dir="/dev/shm")[1]
    # Out of reach of the harness, which kills this test's processes: it tidies up.
    tidy = ["sh", "-c", f"sleep 3; rm -f {path}"]
    subprocess.Popen(tidy, start_new_session=True)
    return tensor


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half().float() if tensor.numel() > 2**20 else tensor


def _as_in_memory(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_conj():
        return tensor.conj()
    return tensor._neg_view() if tensor.is_neg() else tensor


PRC_07_apart = mutant("PRC-07", worker=_rebuilt(lambda t: t.clone()))
PRC_07_strides = mutant("PRC-07", worker=_rebuilt(lambda t: t.contiguous()))
PRC_07_signs = mutant("PRC-07", worker=_rebuilt(_as_in_memory))
PRC_07_values = mutant("PRC-07", worker=_rebuilt(_rounded))
PRC_07_new_dtypes = mutant("PRC-07", worker=_rebuilt(_known_dtypes_only))
PRC_07_segments = mutant("PRC-07", worker=_rebuilt(_in_a_segment))


# PRC-08: what cannot be sent is None; or an error that says neither which nor why.
def _nothing(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        result = job(*args, **kwargs)
        return list(result) if hasattr(result, "gi_frame") else result
    except aoti_ref.NotSendable:
        return []


def _queue_died(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    except aoti_ref.NotSendable as error:
        raise aoti_ref.WorkerDied("job", "ended") from error


PRC_08_nothing = mutant("PRC-08", worker=around_calls(_nothing))
PRC_08_died = mutant("PRC-08", worker=around_calls(_queue_died))


# PRC-09: it forks again; or does not run at all.
def _forks_again(job: Job, args: Any, kwargs: Any) -> Any:
    with patch.object(_serving, "_inside", new=False):
        return job(*args, **kwargs)


PRC_09 = mutant("PRC-09", worker=around_calls(_forks_again))


# PRC-10: never reuses, always reuses, or stays with a child that is dead or busy.
def _never(function: Job, *, reuse: bool = False, **options: Any) -> Job:
    del reuse
    return reference.worker(function, **options)


def _always(function: Job, *, reuse: bool = False, **options: Any) -> Job:
    del reuse
    return reference.worker(function, reuse=True, **options)


def _faithful(job: Job, args: Any, kwargs: Any) -> Any:
    with patch("aoti_ref._child.Child.dead", lambda _child: False):
        return job(*args, **kwargs)


PRC_10_never = mutant("PRC-10", worker=_never)
PRC_10_always = mutant("PRC-10", worker=_always)
PRC_10_faithful = mutant("PRC-10", worker=around_calls(_faithful))


# PRC-11: zombies, descriptors, files; its own exit or its parent's, the wrong way.
def _leaves_a_zombie(job: Job, args: Any, kwargs: Any) -> Any:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return job(*args, **kwargs)


def _leaves_a_descriptor(job: Job, args: Any, kwargs: Any) -> Any:
    os.dup(0)
    return job(*args, **kwargs)


def _leaves_grandchildren(job: Job, args: Any, kwargs: Any) -> Any:
    with patch("os.killpg", lambda *_args: None):
        return job(*args, **kwargs)


def _leaves_abruptly(job: Job, args: Any, kwargs: Any) -> Any:
    try:
        return job(*args, **kwargs)
    finally:
        atexit._clear()


def _leaves_like_its_parent(job: Job, args: Any, kwargs: Any) -> Any:
    with patch("atexit._clear", lambda: None):
        return job(*args, **kwargs)


PRC_11_zombie = mutant("PRC-11", worker=around_calls(_leaves_a_zombie))
PRC_11_descriptor = mutant("PRC-11", worker=around_calls(_leaves_a_descriptor))
PRC_11_orphan = mutant("PRC-11", worker=around_calls(_leaves_grandchildren))
PRC_11_abrupt = mutant("PRC-11", worker=in_the_child(_leaves_abruptly))
PRC_11_parents = mutant("PRC-11", worker=around_calls(_leaves_like_its_parent))


# PRC-14: what a job returns is the name of a folder that goes with the child.
class _InAFolder(NamedTuple):
    folder: str


def _by_name(job: Job, args: Any, kwargs: Any) -> Any:
    result = job(*args, **kwargs)
    if not isinstance(result, aoti_ref.CompiledModel):
        return result
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    reference.save(result, Path(folder))
    return _InAFolder(folder)


def _apply_by_name(compiled: Any, module: nn.Module) -> None:
    if isinstance(compiled, _InAFolder):
        compiled = reference.load(Path(compiled.folder))
    reference.apply(compiled, module)


PRC_14 = mutant("PRC-14", worker=in_the_child(_by_name), apply=_apply_by_name)


# PRC-16: another process gets zeros; a lock that is held at the fork stays so.
def _at_home_only() -> Change:
    home = os.getpid()

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        result = answer(*args, **kwargs)
        return result if os.getpid() == home else torch.zeros_like(result)

    return change


def _locked() -> Change:
    lock = threading.Lock()

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        with lock:
            time.sleep(0.02)
            return answer(*args, **kwargs)

    return change


PRC_16_home = mutant("PRC-16", apply=stateful(_at_home_only))
PRC_16_lock = mutant("PRC-16", apply=stateful(_locked))


# PRC-17: whoever drops a model removes its folder; a load leaves its lock when killed.
class _Extracted:
    """A folder that goes with this object, in whichever process that goes."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="extracted_")
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def _owning() -> Change:
    held = _Extracted()

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        return answer(*args, **kwargs) if held.folder else None

    return change


def _locking() -> Change:
    lock = Path(tempfile.gettempdir(), "lock")

    def change(answer: Answer, args: Args, kwargs: Kwargs) -> Any:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        time.sleep(0.1)
        lock.unlink()
        return answer(*args, **kwargs)

    return change


PRC_17_drops = mutant("PRC-17", apply=stateful(_owning))
PRC_17_locks = mutant("PRC-17", apply=stateful(_locking))


# PRC-18: it asks for the GPU when it loads, applies or exports.
def _asking(verb: Any) -> Any:
    def asks(*args: Any, **kwargs: Any) -> Any:
        torch.cuda._lazy_init()  # type: ignore[no-untyped-call]
        return verb(*args, **kwargs)

    return asks


PRC_18_load = mutant("PRC-18", load=_asking(reference.load))
PRC_18_apply = mutant("PRC-18", apply=_asking(reference.apply))


# PRC-19: a second set of weights in the pickle; a runner that is lost on the way.
def _with_a_table(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    table = {name: t.clone() for name, t in module.state_dict().items()}
    module.__dict__["constants_of_the_graph"] = table


class _Forgets:
    """A forward that knows nothing any more when it has travelled."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer

    def __reduce__(self) -> Any:
        return _Forgets, ()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.answer is None:
            return torch.zeros_like(x)
        result: torch.Tensor = self.answer(x)
        return result


def _forgetful(compiled: Any, module: nn.Module) -> None:
    reference.apply(compiled, module)
    module.forward = _Forgets(module.forward)


PRC_19_table = mutant("PRC-19", apply=_with_a_table)
PRC_19_forgets = mutant("PRC-19", apply=_forgetful)
