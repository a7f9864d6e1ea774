"""Compile the repeated blocks of a module: one graph for all that can share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aoti_ref import _attention, _attributes, _blocks, _forms, _traits
from aoti_ref._at_once import at_once
from aoti_ref._binding import fitted
from aoti_ref._compile import compile as compile_program
from aoti_ref._contract import GROUP, VALUES
from aoti_ref._errors import AotiError, Fault, NeverCalled, UnusableFolder
from aoti_ref._export import trace
from aoti_ref._hooks import inner_method
from aoti_ref._making_errors import (
    ConflictingOption,
    FailedBlocks,
    NotExportable,
    UnknownArgument,
    UnknownOption,
)
from aoti_ref._peak import told
from aoti_ref._progress import shown
from aoti_ref._regions import CompiledRegions, Region
from aoti_ref._variants import CompiledVariants, living

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
    attention: str | None = None,
    on_failure: Literal["raise", "eager"] = "raise",
    progress: bool | Progress = True,
    jobs: int = 1,
    max_forms: int = 8,
) -> CompiledRegions:
    """Compile the blocks of `module` that were called, one graph for equal ones.

    Blocks share a graph if their classes, parts and code are the same, their tensors
    have the same names, dtypes, shapes and strides, the plain values that the graph
    read from them are equal, and they were called in one form. A block that was
    called in several forms gets a graph for each, as `CompiledVariants`; record runs
    at all resolutions in one `capture_regions`. Every graph is exported before the
    first is compiled, so that most failures cost no compile.

    Args:
        module: In eval mode. It is left as it was found.
        calls: From `capture_regions` on the same module.
        dynamic: As `export` takes it, by names of the blocks' arguments. A block
            that has no argument of a name does without.
        options: Inductor's.
        attention: As `export` takes it, for all blocks; those that do not attend do
            without, but some must.
        on_failure: What becomes of a block that cannot be compiled: "raise", or
            leave it "eager" and name it in the result's `eager`.
        progress: Whether to show a bar (needs tqdm), or what to call instead, with
            the number of graphs that are done, of all, and the blocks' class.
        jobs: How many graphs to compile at once, each in a forked child as
            `gpu_task` makes them; so only where this process has not started CUDA.
            A child's memory is no part of `peak`.
        max_forms: In how many forms a block may be called. A number that changes
            with every step is a form at every step, and a graph.

    Returns:
        What `apply` takes, for `module` or one with the same blocks.

    Raises:
        FailedBlocks: Blocks cannot be compiled, all by name; or, with "eager", none
            of them can.
        UnknownArgument: `dynamic` names an argument of no block.
        UnusableAttention: No block attends.
        UnknownOption, ConflictingOption, UnusableFolder: As `compile` says.
        CudaInParent: More than one job, and this process has started CUDA.
    """
    if jobs < 1:
        message = f"jobs must be 1 or more, found {jobs}"
        raise ValueError(message)
    if on_failure not in ("raise", "eager"):
        message = f"on_failure must be 'raise' or 'eager', found {on_failure!r}"
        raise ValueError(message)
    failures = _Failures(type(module).__name__)
    found = _blocks.find(module, calls.wanted)
    sites = _sites(found, calls, dynamic or {}, max_forms, failures)
    groups = [
        group
        for alike in sites.values()
        for group in _exported(alike, failures, attention)
    ]
    if attention and groups and not any(map(_attends, groups)):
        where = _attention.NOWHERE
        raise _attention.UnusableAttention(failures.module, attention, where)
    if on_failure == "raise":
        failures.refuse()
    groups = failures.spare(groups)
    graphs: dict[str, list[CompiledModel]] = {}
    with shown(progress, len(groups)) as show:
        for done, (group, made) in enumerate(_made(groups, options, jobs)):
            for name, graph in _compiled(group, made, failures).items():
                graphs.setdefault(name, []).append(graph)
            show(done + 1, len(groups), type(group.sites[0].block).__name__)
            if on_failure == "raise":
                failures.refuse()
    eager = {fault.name: f"{fault.kind}: {fault.detail}" for fault in failures.faults}
    # A block that has a graph for some of its calls only would refuse the others.
    whole = {name: found for name, found in graphs.items() if name not in eager}
    if not whole:
        failures.refuse()
    regions = _regions(whole, found)
    return CompiledRegions(failures.module, calls.wanted, regions, eager)


def _regions(
    graphs: Mapping[str, list[CompiledModel]], blocks: Mapping[str, nn.Module]
) -> tuple[Region, ...]:
    """Put together the blocks that have the same graphs."""
    alike: dict[tuple[CompiledModel, ...], list[str]] = {}
    for name, models in graphs.items():
        alike.setdefault(tuple(models), []).append(name)
    return tuple(
        Region(
            tuple(names),
            models[0] if len(models) == 1 else CompiledVariants(living(models)),
            _traits.make(blocks[names[0]]),
        )
        for models, names in alike.items()
    )


class _Failures:
    """The blocks that cannot be compiled, and why."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.faults: list[Fault] = []

    def add(self, name: str, error: AotiError) -> None:
        self.faults.append(Fault.of(name, error))

    def spare(self, groups: list[_Group]) -> list[_Group]:
        """Leave out the blocks that have failed in another form."""
        failed = {fault.name for fault in self.faults}
        left = [
            _Group([s for s in group.sites if s.name not in failed], group.program)
            for group in groups
        ]
        return [group for group in left if group.sites]

    def refuse(self) -> None:
        """Raise if there are any."""
        if self.faults:
            what = "cannot be compiled"
            raise FailedBlocks(self.module, what, tuple(self.faults))


def _sites(
    found: Mapping[str, nn.Module],
    calls: RegionCalls,
    dynamic: Mapping[str, Any],
    max_forms: int,
    failures: _Failures,
) -> dict[tuple[Any, ...], list[_Site]]:
    """Put blocks together that look alike and are called in one form."""
    alike: dict[tuple[Any, ...], list[_Site]] = {}
    known: dict[str, None] = {}
    for name, block in found.items():
        kind = type(block).__name__
        examples = calls.calls(name) if name in calls.forms else []
        named = [_forms.arguments(block, call) for call in examples]
        known |= dict.fromkeys(n for arguments in named for n in arguments)
        elsewhere = _forms.given(named)
        forms: dict[tuple[Any, ...], _Site] = {}
        try:
            for call, arguments in zip(examples, named, strict=True):
                ranges = _forms.ranges(arguments, dynamic, elsewhere)
                form = _forms.form(arguments, ranges, kind)
                forms.setdefault(form, _Site(name, block, call, ranges))
        except AotiError as error:
            failures.add(name, error)
            continue
        if not forms:
            failures.add(name, NeverCalled(kind, "forward"))
        elif len(forms) > max_forms:
            spelt = " and ".join(str(s.call) for s in list(forms.values())[:3])
            several = (
                f"it is called in {len(forms)} forms, and max_forms is {max_forms}"
            )
            failures.add(name, NotExportable(kind, f"{several}: {spelt}, ..."))
        else:
            traits = {**_traits.make(block), **_traits.tensors(block)}
            for form, site in forms.items():
                alike.setdefault((*form, *traits.items()), []).append(site)
    for name in dynamic:
        if known and name not in known:
            raise UnknownArgument(name, tuple(known))
    return alike


def _attends(group: _Group) -> bool:
    return bool(_attention.backends(group.program))


def _exported(
    sites: list[_Site], failures: _Failures, attention: str | None
) -> list[_Group]:
    """Export blocks that look alike; those with other plain values apart."""
    groups: list[_Group] = []
    while sites:
        first = sites[0]
        try:
            program = trace(
                first.block, first.call, dynamic=first.ranges, attention=attention
            )
        except AotiError as error:
            values = _traits.plain(first.block)
            same = [s for s in sites if _traits.plain(s.block) == values]
            for site in same:
                failures.add(site.name, error)
        else:
            read = program.graph_module.meta[VALUES]
            same = [s for s in sites if not _attributes.places(s.block, read)[1]]
            program.graph_module.meta[GROUP] = _traits.group(first.block)
            groups.append(_Group(same, program))
        taken = {site.name for site in same}
        sites = [site for site in sites if site.name not in taken]
    return groups


def _made(
    groups: list[_Group], options: Mapping[str, Any] | None, jobs: int
) -> Iterator[tuple[_Group, CompiledModel | AotiError]]:
    """Compile the graphs, and give each with its group, or what it was refused for."""

    def make(index: int) -> CompiledModel | AotiError:
        try:
            return compile_program(groups[index].program, options=options)
        except _CALLERS:
            raise
        except AotiError as error:
            return error

    return zip(groups, at_once(make, range(len(groups)), jobs), strict=True)


def _compiled(
    group: _Group, compiled: CompiledModel | AotiError, failures: _Failures
) -> dict[str, CompiledModel]:
    """Hold the blocks of a group to its graph; give it to those that fit, by name."""
    if isinstance(compiled, AotiError):
        for site in group.sites:
            failures.add(site.name, compiled)
        return {}
    fitting: dict[str, CompiledModel] = {}
    for site in group.sites:
        offloaded = inner_method(site.block, "forward") != "forward"
        try:
            fitted(compiled.package, site.block, offloaded=offloaded)
        except AotiError as error:
            failures.add(site.name, error)
        else:
            fitting[site.name] = compiled
    return fitting
