"""The core verbs under the names that Hugging Face's `spaces` gives them.

A Space that says `import spaces` for ahead-of-time compilation can say
`import aoti_ref.spaces_api as spaces` and change nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aoti_ref._apply import apply
from aoti_ref._capture import capture
from aoti_ref._compile import CompiledModel, compile
from aoti_ref._folder import PACKAGE, ROOT
from aoti_ref._folder import submodule as _submodule
from aoti_ref._interchange import load_one, load_parts
from aoti_ref._package_errors import NotInterchangeable

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from torch import nn
    from torch.export import ExportedProgram

    from aoti_ref._call import Call


def aoti_capture(
    module: nn.Module, call_method: str = "forward"
) -> AbstractContextManager[Call]:
    """Record the first call of the block: `aoti_ref.capture`."""
    return capture(module, call_method)


def aoti_compile(
    exported_program: ExportedProgram, inductor_configs: dict[str, Any] | None = None
) -> CompiledModel:
    """Compile without weights: `aoti_ref.compile`."""
    return compile(exported_program, options=inductor_configs)


def aoti_apply(
    compiled: CompiledModel, module: nn.Module, call_method: str = "forward"
) -> None:
    """Run `compiled` in place of the method: `aoti_ref.apply`.

    The weights stay on the module, which they leave under `spaces`.
    """
    apply(compiled, module, method=call_method)


def aoti_compile_and_save(
    package_dir: str | os.PathLike[str],
    exported_program: ExportedProgram,
    inductor_configs: dict[str, Any] | None = None,
    submodule: str | None = None,
) -> None:
    """Compile into `root` of a folder, or into one below `submodules`.

    Each package is written whole or not at all, and says what it is for.
    """
    compiled = compile(exported_program, options=inductor_configs)
    name = ROOT if submodule is None else _submodule(submodule)
    path = Path(package_dir) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    compiled.save(path)


def aoti_load_from_package_dir(
    module: nn.Module,
    package_dir: str | os.PathLike[str],
    programs: Mapping[str, ExportedProgram] | None = None,
) -> None:
    """Apply the packages of a folder to `module`, or to its parts: all or none.

    Args:
        module: In eval mode. A part that is a list stands for its members.
        package_dir: With `root/package.pt2`, or `submodules/<part>/package.pt2`.
        programs: For packages that `spaces` has compiled, which do not say what they
            are for: the program of each part, by its name, or by "" for `root`. Their
            libraries are loaded at once: only for files that may run code here.

    Raises:
        NotInterchangeable: A program is needed and not given, or is another one; or
            the folder has graphs for the module and for its parts, or none at all.
        BrokenPackage, WrongHost: As `aoti_ref.load` says.
        WeightMismatch, FailedBlocks, NoBlocks: As `aoti_ref.apply` says.
    """
    folder = Path(package_dir)
    parts = {
        path.parent.name: path
        for path in sorted((folder / "submodules").glob(f"*/{PACKAGE}"))
    }
    has_root = (folder / ROOT).is_file()
    if has_root == bool(parts):
        what = "both a root and submodules" if parts else "no package"
        raise NotInterchangeable(str(folder), f"it has {what}")
    if has_root:
        apply(load_one(folder / ROOT, (programs or {}).get("")), module)
    else:
        apply(load_parts(parts, module, programs), module)


def aoti_load_from_blocks_dir(
    module: nn.Module,
    blocks_dir: str | os.PathLike[str],
    variant: str | None = None,
    programs: Mapping[str, ExportedProgram] | None = None,
) -> None:
    """Apply a folder of packages by class to the blocks of `module`: all or none.

    It is what `spaces.aoti_blocks_load` takes from a repository.

    Args:
        module: With `_repeated_blocks`, as diffusers' models have it.
        blocks_dir: With `<class>/package.pt2` for each of those.
        variant: What is appended to the names of the classes' folders.
        programs: As for `aoti_load_from_package_dir`, by class.

    Raises:
        NotInterchangeable: A package is missing, or needs a program.
        BrokenPackage, WrongHost: As `aoti_ref.load` says.
        FailedBlocks, NoBlocks: As `aoti_ref.apply` says.
    """
    folder = Path(blocks_dir)
    names: Any = getattr(module, "_repeated_blocks", None) or ()
    suffix = f".{variant}" if variant else ""
    packages = {name: folder / f"{name}{suffix}" / PACKAGE for name in names}
    missing = [str(path) for path in packages.values() if not path.is_file()]
    if missing or not packages:
        reason = f"it has no {missing[0]}" if missing else "no class is repeated"
        raise NotInterchangeable(str(folder), reason)
    apply(load_parts(packages, module, programs), module)
