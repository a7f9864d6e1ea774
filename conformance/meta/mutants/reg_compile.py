"""Mutants of the chapter REG: what a compile of blocks tells, and what it takes."""

from __future__ import annotations

import copy
import resource
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import tqdm

from conformance.adapter import Refused
from conformance.adapters import reference
from conformance.meta.mutants._make import mutant

if TYPE_CHECKING:
    from torch import nn

_open: list[Any] = []


class _Enough(BaseException):
    """Ends a run."""


def _keeps_and_cuts_short(module: nn.Module, run: Any, **kwargs: Any) -> Any:
    cells = list(module.get_submodule("cells").children())

    def keep(block: nn.Module, args: Any) -> None:
        _open.extend(arg.clone() for arg in args)
        if block is cells[-1]:
            raise _Enough

    for block in cells:
        block.register_forward_pre_hook(keep)
    try:
        run()
    except _Enough as error:
        raise Refused("that was enough") from error
    return reference.compile_regions(module, run, **kwargs)


REG_14_cut_short = mutant("REG-14", compile_regions=_keeps_and_cuts_short)


def _tells_nothing(*args: Any, **kwargs: Any) -> Any:
    return reference.compile_regions(*args, **kwargs | {"progress": False})


def _tells_at_the_end(*args: Any, progress: Any = False, **kwargs: Any) -> Any:
    made = reference.compile_regions(*args, **kwargs)
    for _ in made.regions:
        progress(len(made.regions), len(made.regions), "all")
    return made


def _calls_only(*args: Any, **kwargs: Any) -> Any:
    """Call back, and show no bar."""
    progress = kwargs.pop("progress", False)
    called = progress if callable(progress) else False
    return reference.compile_regions(*args, progress=called, **kwargs)


def _leaves_its_bar(*args: Any, **kwargs: Any) -> Any:
    made = _calls_only(*args, **kwargs)
    bar = tqdm.tqdm(total=2)
    _open.append(bar)
    bar.update(2)
    bar.refresh()
    return made


REG_32_tells_nothing = mutant("REG-32", compile_regions=_tells_nothing)
REG_32_at_the_end = mutant("REG-32", compile_regions=_tells_at_the_end)
REG_32_no_bar = mutant("REG-32", compile_regions=_calls_only)
REG_32_open = mutant("REG-32", compile_regions=_leaves_its_bar)


def _loses_a_graph(*args: Any, jobs: int = 1, **kwargs: Any) -> Any:
    made = reference.compile_regions(*args, jobs=jobs, **kwargs)
    first, *others = made.regions
    lost = dict.fromkeys(first.names, "lost")
    return replace(made, regions=tuple(others), eager=lost)


def _leaves_a_process(*args: Any, jobs: int = 1, **kwargs: Any) -> Any:
    made = reference.compile_regions(*args, jobs=jobs, **kwargs)
    sleeps = "import time; time.sleep(20)"
    _open.append(subprocess.Popen([sys.executable, "-c", sleeps]))
    return made


REG_43_loses = mutant("REG-43", compile_regions=_loses_a_graph)
REG_43_process = mutant("REG-43", compile_regions=_leaves_a_process)


def _copies_first(module: nn.Module, run: Any, **kwargs: Any) -> Any:
    twin = copy.deepcopy(module)
    made = reference.compile_regions(module, run, **kwargs)
    del twin
    return made


REG_41 = mutant("REG-41", compile_regions=_copies_first)


def _all_that_there_is(_made: Any) -> dict[str, int]:
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return {"cpu": highest, "cuda": 1 << 40}


REG_42 = mutant("REG-42", peaks=_all_that_there_is)


def _doubled(made: Any) -> dict[str, int]:
    return {name: 2 * size + (1 << 26) for name, size in reference.peaks(made).items()}


REG_42_doubled = mutant("REG-42", peaks=_doubled)
