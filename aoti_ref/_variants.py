"""Several graphs of one module, each for calls of its own, on one set of weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from aoti_ref import _bundle, _contract, _derive, _domains, _forms
from aoti_ref._compile import CompiledModel, Part
from aoti_ref._compile import compile as compile_program
from aoti_ref._errors import AotiError, BrokenPackage, Fault, UnusableFolder
from aoti_ref._export import export
from aoti_ref._making_errors import (
    ConflictingOption,
    NotExportable,
    UnknownArgument,
    UnknownOption,
)
from aoti_ref._progress import shown
from aoti_ref._saving import write_whole
from aoti_ref._variant_errors import DeadVariant, FailedVariants

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from torch import nn
    from torch.export import ExportedProgram

    from aoti_ref._call import Call
    from aoti_ref._progress import Progress
    from aoti_ref._source import Source

FORM = _bundle.Form("variants", "aoti_ref.variants/2")

# Mistakes of the caller's, which are no graph's.
_CALLERS = (UnknownOption, ConflictingOption, UnusableFolder, UnknownArgument)


class CompiledVariants:
    """Compiled graphs of one module; the first whose contract a call keeps answers it.

    `apply` takes it, and binds all of them to the module's own weights. A call that
    none of them takes is refused. It never changes, and it pickles.

    Args:
        models: In the order in which they are asked: from `compile` or `load`, or
            variants, whose graphs are taken in their order.
        source: Where on the Hub they are from, if they are from there.

    Raises:
        DeadVariant: Those before it take all calls of one of them.
    """

    def __init__(
        self,
        models: Iterable[CompiledModel | CompiledVariants],
        *,
        source: Source | None = None,
    ) -> None:
        found: list[CompiledModel] = []
        for model in models:
            if not isinstance(model, (CompiledModel, CompiledVariants)):
                kind = type(model).__name__
                message = f"models must be CompiledModels, found a {kind}"
                raise TypeError(message)
            found += model.models
        if not found:
            message = "models must be one CompiledModel or more, found none"
            raise ValueError(message)
        self.models: tuple[CompiledModel, ...] = tuple(found)
        self.source = source
        _refuse_dead([model.package.contract for model in found])

    def __repr__(self) -> str:
        return f"CompiledVariants({', '.join(map(repr, self.models))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(CompiledVariants, source=self.source), (self.models,)

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledVariants:
        return self  # it never changes

    @property
    def domains(self) -> tuple[str, ...]:
        """Spell the calls that each graph takes: `(x: float32[n, 8]), n in 2..9`."""
        return tuple(_domains.spell(model.package.contract) for model in self.models)

    def parts(self, module: nn.Module) -> list[Part]:
        """Say which modules this stands in for, and how: the one that it is given."""
        return [Part("", self, module)]

    def dump(self) -> bytes:
        """Give what `save` writes."""
        graphs = [model.dump() for model in self.models]
        return _bundle.write(FORM, {"graphs": len(graphs)}, graphs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all graphs into the one file `path`, whole or not at all."""
        write_whole(path, self.dump())


def read(data: bytes, origin: str) -> CompiledModel | CompiledVariants:
    """Read what `dump` gave: one graph, or variants.

    Args:
        data: The archive.
        origin: Where it came from, for messages.

    Raises:
        BrokenPackage, WrongHost: As `load` says.
    """
    if not _bundle.holds(data, origin, FORM):
        return CompiledModel(data, origin)
    manifest, graphs = _bundle.read(data, origin, FORM)
    if manifest.get("graphs") != len(graphs):
        reason = f"its manifest has {manifest.get('graphs')!r} graphs"
        raise BrokenPackage(origin, f"{reason}, and the archive {len(graphs)}")
    try:
        return CompiledVariants(CompiledModel(graph, origin) for graph in graphs)
    except (DeadVariant, LookupError, TypeError, ValueError, AttributeError) as error:
        raise _bundle.strange(origin, FORM, error) from error


def compile_variants(
    module: nn.Module,
    calls: Iterable[Call],
    *,
    dynamic: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None,
    options: Mapping[str, Any] | None = None,
    method: str = "forward",
    attention: str | None = None,
    progress: bool | Progress = True,
) -> CompiledVariants:
    """Compile `module` for several calls: one graph for all that are of one form.

    For resolutions, batch sizes, dtypes, or an argument that is given at some steps
    only. Every graph is exported, and their domains are compared, before the first
    is compiled, so that most failures cost no compile.

    Args:
        module: In eval mode. It is left as it was found.
        calls: From `capture_calls`, or from `capture` one by one. Their order is
            the order in which graphs are asked; a call of the form of an earlier
            one makes no graph.
        dynamic: As `export` takes it, for all calls; or one for each of them. A call
            in which an argument is None does without its range.
        options: Inductor's.
        method: The method that the calls were recorded from.
        attention: As `export` takes it, for all graphs.
        progress: Whether to show a bar (needs tqdm), or what to call instead, with
            the number of graphs that are done, of all, and the module's class.

    Returns:
        What `apply` takes.

    Raises:
        FailedVariants: Calls that no graph can be made for, all of them named.
        DeadVariant: Ranges of earlier calls hold all calls of a later graph.
        UnknownArgument: `dynamic` names an argument that there is not.
        UnknownOption, ConflictingOption, UnusableFolder: As `compile` says.
    """
    programs = _exported(module, list(calls), dynamic, method, attention)
    kind = type(module).__name__
    contracts = [_derive.derive(program, kind) for program in programs.values()]
    _refuse_dead(contracts)
    models: list[CompiledModel] = []
    with shown(progress, len(programs), "variants") as show:
        for number, program in programs.items():
            try:
                models.append(compile_program(program, options=options))
            except _CALLERS:
                raise
            except AotiError as error:
                raise _failed(kind, [(number, error)]) from error
            show(len(models), len(programs), kind)
    return CompiledVariants(models)


def _exported(
    module: nn.Module,
    calls: list[Call],
    dynamic: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None,
    method: str,
    attention: str | None,
) -> dict[int, ExportedProgram]:
    """Export for the first call of each form; by its number among all."""
    kind = type(module).__name__
    named: dict[int, dict[str, Any]] = {}
    failed: list[tuple[int, AotiError]] = []
    for number, call in enumerate(calls):
        try:
            named[number] = _forms.arguments(module, call, method=method)
        except TypeError as error:  # noqa: PERF203  # all are to be named
            reason = f"{call} does not fit {method}: {error}"
            failed.append((number, NotExportable(kind, reason)))
    tables = _tables(dynamic, len(calls), named)
    forms: set[tuple[Any, ...]] = set()
    programs: dict[int, ExportedProgram] = {}
    for number, arguments in named.items():
        try:
            form = _forms.form(arguments, tables[number], kind)
            if form not in forms:
                forms.add(form)
                programs[number] = export(
                    module,
                    calls[number],
                    dynamic=tables[number] or None,
                    method=method,
                    attention=attention,
                )
        except _CALLERS:  # noqa: PERF203  # all others are to be named
            raise
        except AotiError as error:
            failed.append((number, error))
    if failed:
        raise _failed(kind, sorted(failed, key=lambda each: each[0]))
    if not programs:
        message = "calls must be one call or more, found none"
        raise ValueError(message)
    return programs


def _tables(
    dynamic: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None,
    count: int,
    named: Mapping[int, Mapping[str, Any]],
) -> list[Mapping[str, Any]]:
    """Give the ranges of each call."""
    if isinstance(dynamic, Mapping) or dynamic is None:
        everywhere = dynamic or {}
        elsewhere = _forms.given(named.values())
        known = {name for arguments in named.values() for name in arguments}
        for name in everywhere:
            if named and name not in known:
                raise UnknownArgument(name, tuple(sorted(known)))
        return [
            _forms.ranges(named.get(number, {}), everywhere, elsewhere)
            for number in range(count)
        ]
    if len(dynamic) != count:
        message = f"dynamic must be {count} tables, one for each call, or one for all"
        raise ValueError(f"{message}; found {len(dynamic)}")
    return [table or {} for table in dynamic]


def _failed(kind: str, failed: list[tuple[int, AotiError]]) -> FailedVariants:
    faults = tuple(Fault.of(f"calls[{number}]", error) for number, error in failed)
    return FailedVariants(kind, "cannot be compiled", faults)


def _refuse_dead(contracts: list[_contract.Contract]) -> None:
    for number, contract in enumerate(contracts):
        found = _domains.takers(contract, contracts[:number])
        if found:
            takers = tuple((n, _domains.spell(contracts[n])) for n in found)
            spelt = _domains.spell(contract)
            raise DeadVariant(contract.module, number, spelt, takers)


def living(models: Sequence[CompiledModel]) -> list[CompiledModel]:
    """Leave out what would never be asked after those before it."""
    found: list[CompiledModel] = []
    for model in models:
        before = [each.package.contract for each in found]
        if not _domains.takers(model.package.contract, before):
            found.append(model)
    return found
