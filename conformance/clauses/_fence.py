"""A process in which nothing can be imported but torch and an implementation.

Nothing of torch or of the suite is imported here before the fence is up: torch takes
numpy where it is there, and an adapter may ask for anything as it is imported.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from conformance.adapter import Packages

# torch's requirements, and theirs.
_TORCHS = "torch functorch torchgen filelock typing_extensions setuptools sympy"
_THEIRS = "mpmath networkx jinja2 markupsafe fsspec _distutils_hack pkg_resources"
# What the suite itself asks for, and theirs.
_SUITES = "conformance pytest _pytest py pluggy iniconfig packaging pygments tomli"
_OLDER = "exceptiongroup"  # of Pythons before 3.11


class _Fenced:
    """A finder that finds nothing but what is `known`, by the first part of its name.

    What asks whether a module is there is told that it is not, as on a bare host.
    """

    def __init__(self, finder: Any, known: Collection[str]) -> None:
        self.finder = finder
        self.known = known

    def find_spec(self, name: str, *others: Any) -> Any:
        known = name.partition(".")[0] in self.known
        return self.finder.find_spec(name, *others) if known else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


def alone(adapter: str, folder: str, seed: int, packages: Sequence[str]) -> Any:
    """Load a Stack's package behind the fence, apply it and call it."""
    with contextlib.suppress(ImportError):
        importlib.import_module("setuptools")  # it exchanges distutils as it comes
    sysconfig.get_config_vars()  # a module of a name that no list has
    names = f"{_TORCHS} {_THEIRS} {_SUITES} {_OLDER}".split()
    known = {*names, *packages, *sys.stdlib_module_names}
    sys.meta_path[:] = [_Fenced(finder, known) for finder in sys.meta_path]
    import torch

    from conformance.adapter import load
    from conformance.clauses._unpacking import called
    from conformance.models import blocks

    torch.set_num_threads(1)
    impl = cast("Packages", load(adapter))
    module = blocks.seeded(blocks.Stack, seed)
    impl.apply(impl.load(Path(folder)), module)
    return called(module)
