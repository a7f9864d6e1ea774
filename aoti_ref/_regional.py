"""Compile the repeated blocks of a module: one graph for all that can share it."""

from __future__ import annotations

import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch.utils import _pytree as pytree

from aoti_ref import _attributes, _blocks, _traits, _tree
from aoti_ref._binding import fitted
from aoti_ref._compile import compile as compile_program
from aoti_ref._contract import VALUES
from aoti_ref._dynamic import read_ranges
from aoti_ref._errors import (
    AotiError,
    ConflictingOption,
    FailedBlocks,
    Fault,
    NeverCalled,
    NotExportable,
    UnknownArgument,
    UnknownOption,
    UnusableFolder,
)
from aoti_ref._export import argument_paths, export
from aoti_ref._hooks import inner_method
from aoti_ref._peak import told
from aoti_ref._progress import shown
from aoti_ref._recording import leaf_of
from aoti_ref._regions import CompiledRegions, Region
from aoti_ref._serving import inside
from aoti_ref._worker import gpu_task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn
    from torch.export import ExportedProgram

    from aoti_ref._call import Call
    from aoti_ref._compile import CompiledModel
    from aoti_ref._progress import Progress
    from aoti_ref._recording import RegionCalls

# Mistakes of the caller's, which are no block's.
_CALLERS = (UnknownOption, ConflictingOption, UnusableFolder)


class _Site(NamedTuple):
    """A block, a call to export it for, and its own part of the ranges."""

    name: str
    block: nn.Module
    call: Call
    ranges: dict[str, Any]


class _Group(NamedTuple):
    """Blocks that can share a graph, and the graph."""

    sites: list[_Site]
    program: ExportedProgram


@told
def compile_regions(
    module: nn.Module,
    calls: RegionCalls,
    *,
    dynamic: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    on_failure: Literal["raise", "eager"] = "raise",
    progress: bool | Progress = True,
    jobs: int = 1,
) -> CompiledRegions:
    """Compile the blocks of `module` that were called, one graph for equal ones.

    Blocks share a graph if their classes, parts and code are the same, their tensors
    have the same names, dtypes, shapes and strides, the plain values that the graph
    read from them are equal, and they were called in one form. Every graph is
    exported before the first is compiled, so that most failures cost no compile.

    Args:
        module: In eval mode. It is left as it was found.
        calls: From `capture_regions` on the same module.
        dynamic: As `export` takes it, by names of the blocks' arguments. A block
            that has no argument of a name does without.
        options: Inductor's.
        on_failure: What becomes of a block that cannot be compiled: "raise", or
            leave it "eager" and name it in the result's `eager`.
        progress: Whether to show a bar (needs tqdm), or what to call instead, with
            the number of graphs that are done, of all, and the blocks' class.
        jobs: How many graphs to compile at once, each in a forked child as
            `gpu_task` makes them; so only where this process has not started CUDA.

    Returns:
        What `apply` takes, for `module` or one with the same blocks.

    Raises:
        FailedBlocks: Blocks cannot be compiled, all by name; or, with "eager", none
            of them can.
        UnknownArgument: `dynamic` names an argument of no block.
        UnknownOption, ConflictingOption, UnusableFolder: As `compile` says.
        CudaInParent: More than one job, and this process has started CUDA.
    """
    if on_failure not in ("raise", "eager"):
        message = f"on_failure must be 'raise' or 'eager', found {on_failure!r}"
        raise ValueError(message)
    failures = _Failures(type(module).__name__)
    found = _blocks.find(module, calls.wanted)
    sites = _sites(found, calls, dynamic or {}, failures)
    groups = [group for alike in sites.values() for group in _exported(alike, failures)]
    if on_failure == "raise":
        failures.refuse()
    regions: list[Region] = []
    with shown(progress, len(groups)) as show:
        for done, (group, made) in enumerate(_made(groups, options, jobs)):
            regions += _compiled(group, made, failures)
            show(done + 1, len(groups), type(group.sites[0].block).__name__)
            if on_failure == "raise":
                failures.refuse()
    if not regions:
        failures.refuse()
    eager = {fault.name: f"{fault.kind}: {fault.detail}" for fault in failures.faults}
    return CompiledRegions(failures.module, calls.wanted, tuple(regions), eager)


class _Failures:
    """The blocks that cannot be compiled, and why."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.faults: list[Fault] = []

    def add(self, name: str, error: AotiError) -> None:
        detail = " ".join(line.strip() for line in str(error).splitlines())
        self.faults.append(Fault(type(error).__name__, name, detail))

    def refuse(self) -> None:
        """Raise if there are any."""
        if self.faults:
            what = "cannot be compiled"
            raise FailedBlocks(self.module, what, tuple(self.faults))


def _sites(
    found: Mapping[str, nn.Module],
    calls: RegionCalls,
    dynamic: Mapping[str, Any],
    failures: _Failures,
) -> dict[tuple[Any, ...], list[_Site]]:
    """Put blocks together that look alike and are called in one form."""
    alike: dict[tuple[Any, ...], list[_Site]] = {}
    known: dict[str, None] = {}
    for name, block in found.items():
        kind = type(block).__name__
        forms: dict[tuple[Any, ...], _Site] = {}
        examples = calls.calls(name) if name in calls.forms else []
        for call in examples:
            named = _arguments(block, call)
            known |= dict.fromkeys(named)
            ranges = {n: table for n, table in dynamic.items() if n in named}
            try:
                form = _form(named, ranges, kind)
            except AotiError as error:
                failures.add(name, error)
                break
            forms.setdefault(form, _Site(name, block, call, ranges))
        else:
            if not forms:
                failures.add(name, NeverCalled(kind, "forward"))
            elif len(forms) > 1:
                spelt = " and ".join(str(site.call) for site in forms.values())
                several = f"it is called in {len(forms)} forms: {spelt}"
                failures.add(name, NotExportable(kind, several))
            else:
                ((form, site),) = forms.items()
                traits = {**_traits.make(block), **_traits.tensors(block)}
                alike.setdefault((*form, *traits.items()), []).append(site)
    for name in dynamic:
        if known and name not in known:
            raise UnknownArgument(name, tuple(known))
    return alike


def _arguments(block: nn.Module, call: Call) -> dict[str, Any]:
    """Name the arguments of a call that a block has taken, as `export` does."""
    signature = inspect.signature(getattr(block, inner_method(block, "forward")))
    bound = signature.bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return _tree.spread(signature, bound.arguments)


def _form(
    named: Mapping[str, Any], ranges: Mapping[str, Any], kind: str
) -> tuple[Any, ...]:
    """Tell the form of a call, with names for the sizes that a range admits."""
    leaves, spec = pytree.tree_flatten(dict(named))
    places = read_ranges(named, ranges)
    form: list[Any] = [str(spec)]
    for path, leaf in zip(argument_paths(named, kind), leaves, strict=True):
        *rest, last = leaf_of(leaf)
        if isinstance(leaf, torch.Tensor):
            last = tuple(
                (at.__name__, at.min, at.max)
                if (at := places.get((path, dim))) and at.min <= size <= at.max
                else size
                for dim, size in enumerate(leaf.shape)
            )
        form.append((*rest, last))
    return tuple(form)


def _exported(sites: list[_Site], failures: _Failures) -> list[_Group]:
    """Export blocks that look alike; those with other plain values apart."""
    groups: list[_Group] = []
    while sites:
        first = sites[0]
        try:
            program = export(first.block, first.call, dynamic=first.ranges)
        except AotiError as error:
            values = _traits.plain(first.block)
            same = [s for s in sites if _traits.plain(s.block) == values]
            for site in same:
                failures.add(site.name, error)
        else:
            read = program.graph_module.meta[VALUES]
            same = [s for s in sites if not _attributes.places(s.block, read)[1]]
            groups.append(_Group(same, program))
        taken = {site.name for site in same}
        sites = [site for site in sites if site.name not in taken]
    return groups


def _made(
    groups: list[_Group], options: Mapping[str, Any] | None, jobs: int
) -> Iterator[tuple[_Group, CompiledModel | AotiError]]:
    """Compile the graphs, and give each with its group, or what it was refused for."""

    def make(group: _Group) -> CompiledModel | AotiError:
        try:
            return compile_program(group.program, options=options)
        except _CALLERS:
            raise
        except AotiError as error:
            return error

    if jobs <= 1 or len(groups) <= 1 or inside():
        yield from ((group, make(group)) for group in groups)
        return

    def apart(group: _Group) -> CompiledModel | AotiError:
        return gpu_task(lambda: make(group))()

    with ThreadPoolExecutor(jobs) as pool:  # threads that wait for their children
        yield from zip(groups, pool.map(apart, groups), strict=True)


def _compiled(
    group: _Group, compiled: CompiledModel | AotiError, failures: _Failures
) -> list[Region]:
    """Hold the blocks of a group to its graph."""
    if isinstance(compiled, AotiError):
        for site in group.sites:
            failures.add(site.name, compiled)
        return []
    names: list[str] = []
    for site in group.sites:
        offloaded = inner_method(site.block, "forward") != "forward"
        try:
            fitted(compiled.package, site.block, offloaded=offloaded)
        except AotiError as error:
            failures.add(site.name, error)
        else:
            names.append(site.name)
    if not names:
        return []
    return [Region(tuple(names), compiled, _traits.make(group.sites[0].block))]
