"""What is written beside a package on the Hub: a note, and a card for people."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from aoti_ref._compile import CompiledModel
from aoti_ref._contract import TensorSpec
from aoti_ref._errors import BrokenPackage
from aoti_ref._regions import CompiledRegions
from aoti_ref._variants import CompiledVariants

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FORMAT = "aoti_ref.hub/1"
_LIBRARIES = ("aoti-conformance", "diffusers", "torchao", "triton", "kernels")
_KEYS = {
    *("sha256", "module", "torch", "machine", "device", "capability", "variant"),
    *("model", "model_revision", "libraries", "contracts", "ops", "kernels"),
    "figures",
}
Compiled: TypeAlias = CompiledModel | CompiledVariants | CompiledRegions


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
    """
    graphs = _graphs(compiled)
    packages = [graph.package for graph in graphs.values()]
    needs = packages[0].manifest["needs"]
    source = packages[0].manifest["source"]
    if source and not model:
        model, model_revision = source["repo"], source["revision"]
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
        "libraries": _libraries(),
        "contracts": {name: _calls(graph) for name, graph in graphs.items()},
        "attention": sorted({name for p in packages for name in p.attention}),
        "ops": sorted({op for package in packages for op in package.ops}),
        "kernels": [
            kernel.told() for kernel in sorted({k for p in packages for k in p.kernels})
        ],
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


def read(path: Path, origin: str) -> dict[str, Any]:
    """Read a note.

    Raises:
        BrokenPackage: It is none, or of another format.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        made = found["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenPackage(origin, f"{path.name} is no note of aoti_ref") from error
    if made != FORMAT:
        reason = f"{path.name} has the format {made!r}, wanted {FORMAT!r}"
        raise BrokenPackage(origin, reason)
    lost = sorted(_KEYS - found.keys())
    if lost:
        raise BrokenPackage(origin, f"{path.name} lacks {', '.join(lost)}")
    return found


def card(repo_id: str, notes: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the README.md of a repository with these packages, by folder."""
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


def _libraries() -> dict[str, str]:
    installed = {d.name: d.version for d in importlib.metadata.distributions()}
    made = {name: installed[name] for name in _LIBRARIES if name in installed}
    return {"python": platform.python_version(), "torch": torch.__version__, **made}
