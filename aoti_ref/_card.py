"""What is written beside a package on the Hub: a note, and a card for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch

from aoti_ref._compile import CompiledModel
from aoti_ref._contract import TensorSpec
from aoti_ref._errors import BrokenPackage
from aoti_ref._regions import CompiledRegions
from aoti_ref._variants import CompiledVariants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from aoti_ref._kernels import Kernel
    from aoti_ref._package import Package

FORMAT = "aoti_ref.hub/1"
_TEXTS = (
    *("sha256", "module", "torch", "machine", "device", "capability", "variant"),
    *("model", "model_revision"),
)
_LISTS = ("ops", "attention")
_TABLES = ("libraries", "figures")
_KERNEL = ("repo", "revision", "digest")
Compiled: TypeAlias = CompiledModel | CompiledVariants | CompiledRegions


class Notes(NamedTuple):
    """What the notes of a commit say.

    Args:
        known: Those that this reads, by folder.
        foreign: The folders of those in another format, and that.
    """

    known: dict[str, dict[str, Any]]
    foreign: dict[str, str]


def release() -> str:
    """Name the release of torch whose packages can be loaded here: `2.13`."""
    return ".".join(torch.__version__.partition("+")[0].split(".")[:2])


def note(
    compiled: Compiled,
    digest: str,
    *,
    model: str,
    model_revision: str,
    variant: str,
    figures: Mapping[str, object],
) -> dict[str, Any]:
    """Say what a package is, in what JSON can say.

    Args:
        compiled: The package.
        digest: The sha256 of its file.
        model: The model that it is for; empty if it is what `compile` was told.
        model_revision: The revision of that model; or empty.
        variant: What tells it from others for the same machine; or empty.
        figures: What was measured, each under its name.

    Raises:
        ValueError: There is a revision, and no model that it is of.
    """
    if model_revision and not model:
        message = f"model_revision is {model_revision!r}, so model must be given, too"
        raise ValueError(message)
    graphs = _graphs(compiled)
    packages = [graph.package for graph in graphs.values()]
    needs = packages[0].manifest["needs"]
    source = packages[0].manifest["source"]
    if source and not model:
        model, model_revision = source["repo"], source.get("revision", "")
    found = {
        "format": FORMAT,
        "sha256": digest,
        "module": packages[0].contract.module,
        "torch": needs["torch"],
        "machine": needs["machine"],
        "device": packages[0].device,
        "capability": (needs["compute_capability"] or "").replace(".", ""),
        "variant": variant,
        "model": model,
        "model_revision": model_revision,
        "libraries": _libraries(packages),
        "contracts": {name: _calls(graph) for name, graph in graphs.items()},
        "attention": sorted({name for p in packages for name in p.attention}),
        "ops": sorted({op for package in packages for op in package.ops}),
        "kernels": [kernel.told() for kernel in kernels(compiled)],
        "figures": {name: str(value) for name, value in figures.items()},
    }
    if isinstance(compiled, CompiledRegions):
        found["module"] = compiled.module
    return found


def folder(about: Mapping[str, Any]) -> str:
    """Name the folder of a package: `torch2.13-cuda-sm90-x86_64.fast`."""
    capability = f"-sm{about['capability']}" if about["capability"] else ""
    target = f"torch{about['torch']}-{about['device']}{capability}-{about['machine']}"
    return f"{target}.{about['variant']}" if about["variant"] else target


def kernels(compiled: Compiled) -> list[Kernel]:
    """List the kernels that a package needs, as its manifests say."""
    packages = [graph.package for graph in _graphs(compiled).values()]
    return sorted({kernel for package in packages for kernel in package.kernels})


def read(paths: Sequence[Path], origin: str) -> Notes:
    """Read the notes of a commit; each is in the folder of what it is about.

    Args:
        paths: Where they are.
        origin: Where they are from, for messages.

    Raises:
        BrokenPackage: One is none.
    """
    notes = Notes({}, {})
    for path in paths:
        folder, name = path.parent.name, f"{path.parent.name}/{path.name}"
        try:
            found: Any = json.loads(path.read_bytes())
            form = found["format"]
        except (ValueError, RecursionError, LookupError, TypeError) as error:
            raise BrokenPackage(origin, f"{name} is no note of aoti_ref") from error
        if form != FORMAT:
            notes.foreign[folder] = str(form)
            continue
        amiss = [field for field, right in _judged(found) if not right]
        if amiss:
            words = f"{name} lacks {', '.join(amiss)}, or has it as something else"
            raise BrokenPackage(origin, words)
        notes.known[folder] = found
    return notes


def _judged(note: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Say of each field of a note whether it is what `note` writes."""
    found = [(name, isinstance(note.get(name), str)) for name in _TEXTS]
    # Notes of before there were choices of attention have none.
    found += [(name, _are_texts(note.get(name, []))) for name in _LISTS]
    found += [(name, _is_table(note.get(name), _is_text)) for name in _TABLES]
    found.append(("contracts", _is_table(note.get("contracts"), _are_texts)))
    kernels = note.get("kernels")
    are_kernels = isinstance(kernels, list) and all(map(_is_kernel, kernels))
    return [*found, ("kernels", are_kernels)]


def _is_text(found: object) -> bool:
    return isinstance(found, str)


def _are_texts(found: object) -> bool:
    return isinstance(found, list) and all(map(_is_text, found))


def _is_table(found: object, of: Callable[[object], bool]) -> bool:
    return isinstance(found, dict) and all(map(of, found.values()))


def _is_kernel(found: object) -> bool:
    return (
        isinstance(found, dict)
        and all(_is_text(found.get(name)) for name in _KERNEL)
        and _are_texts(found.get("ops"))
    )


def card(
    repo_id: str,
    notes: Mapping[str, Mapping[str, Any]],
    foreign: Mapping[str, str] | None = None,
) -> str:
    """Write the README.md of a repository with these packages, by folder.

    Args:
        repo_id: The repository.
        notes: Of the packages.
        foreign: Folders whose notes are of other formats, and these.
    """
    models = sorted({about["model"] for about in notes.values()} - {""})
    head = ["---", "library_name: aoti_ref", "tags: [aot-inductor]"]
    head += [f"base_model: {json.dumps(models)}"] if models else []
    title = " and ".join(sorted({about["module"] for about in notes.values()}))
    lines = [
        *head,
        "---",
        "",
        f"# {title}, compiled ahead of time",
        "",
        "Graphs for torch's AOTInductor: native code without weights, which are the",
        "model's own. Loading them runs that code: look at who published them.",
        "",
        "```python",
        "compiled = aoti_ref.load_from_hub(",
        f'    "{repo_id}", revision="<the hash of a commit>", trust="{repo_id}"',
        ")",
        "aoti_ref.apply(compiled, module)",
        "```",
    ]
    for name, about in sorted(notes.items()):
        lines += ["", f"## {name}", "", *_section(about)]
    for name, form in sorted((foreign or {}).items()):
        lines += ["", f"## {name}", "", f"Of the format `{_cell(form)}`."]
    return "\n".join(lines) + "\n"


def _section(about: Mapping[str, Any]) -> list[str]:
    model = about["model"] or "not said"
    if about["model_revision"]:
        model += f" at revision {about['model_revision']}"
    device = about["device"]
    if about["capability"]:
        device += f" of compute capability {about['capability']}"
    made = [f"{name} {version}" for name, version in about["libraries"].items()]
    rows = {
        "module": about["module"],
        "model": model,
        "torch": about["torch"],
        "device": f"{device}, {about['machine']}",
        "made with": ", ".join(made) or "not said",
        "sha256": about["sha256"],
    }
    if about.get("attention"):  # notes before it have none
        rows["attention"] = " and ".join(about["attention"])
    for kernel in about["kernels"]:
        rows[f"kernel {kernel['repo']}"] = kernel["revision"]
    lines = ["| what | |", "| --- | --- |"]
    lines += [f"| {_cell(name)} | {_cell(text)} |" for name, text in rows.items()]
    for name, calls in about["contracts"].items():
        lines += ["", f"A call of {name or about['module']}:", ""]
        lines += [f"- `{call}`" for call in calls]
    if about["figures"]:
        lines += ["", "| measured by its publisher | |", "| --- | --- |"]
        figures = about["figures"].items()
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in figures]
    return lines


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _graphs(compiled: Compiled) -> dict[str, CompiledModel]:
    """Give the graphs of a package, each by what it is for."""
    if not isinstance(compiled, CompiledRegions):
        return _numbered("", compiled.models)
    return {
        name: model
        for region in compiled.regions
        for name, model in _numbered(
            ", ".join(region.names), region.compiled.models
        ).items()
    }


def _numbered(name: str, models: Sequence[CompiledModel]) -> dict[str, CompiledModel]:
    if len(models) == 1:
        return {name: models[0]}
    spelt = f"{name}, graph" if name else "graph"
    return {f"{spelt} {index}": model for index, model in enumerate(models)}


def _calls(compiled: CompiledModel) -> list[str]:
    """Spell what a call is made of."""
    contract = compiled.package.contract
    spelled = (
        contract.spell(leaf) if isinstance(leaf, TensorSpec) else repr(leaf.value)
        for leaf in contract.leaves
    )
    pairs = zip(contract.paths(), spelled, strict=True)
    ranges = (
        f"{symbol.name}: {symbol.min}..{symbol.max}"
        for symbol in contract.symbols.values()
    )
    return [*(f"{path}: {text}" for path, text in pairs), *ranges]


def _libraries(packages: Sequence[Package]) -> dict[str, str]:
    """List what the graphs were made with, which is not what is installed here."""
    made = [package.manifest["built_with"] for package in packages]
    names = {name: None for versions in made for name in versions}
    found = {
        name: sorted({str(v[name]) for v in made if v.get(name)}) for name in names
    }
    return {
        name: " and ".join(versions) for name, versions in found.items() if versions
    }
