"""The one seam between the suite and an implementation.

An adapter is a module, or an object, with `info`, `capabilities` and the verbs
below. It translates shapes of calls and kinds of errors, and decides nothing.
It never sees an expected answer.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import nn

ENTRY_POINTS = "aoti_conformance.adapters"

CORE_VERBS = ("capture", "export", "compile", "apply")

# The closed list: what an adapter may declare, and the verbs that it then has. The
# protocols of `attention`, `fp8`, `regional`, `variants` and `peak` are in
# adapter_graphs.py, those of `hub` and `kernels` in adapter_hub.py.
CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    "calls": ("capture_calls",),  # record every call, not only the first
    "dynamic": (),  # export with ranges
    "package": ("save", "load"),  # on disk, without weights
    "labels": ("relabel",),  # packages that say what they were made for
    "restore": ("restore",),  # undo apply
    "fp8": ("quantize",),  # linear layers, to FP8
    "regional": ("compile_regions", "eager_blocks"),  # one graph for equal blocks
    "variants": ("combine", "compile_variants"),  # several graphs of one module
    "kernels": ("use_kernel", "kernel_revision"),  # of the library `kernels`
    "attention": ("export_attending", "attention", "describe"),  # torch's backends
    "peak": ("peaks",),  # what a compile took of memory is told
    "worker": ("worker",),  # run functions in short-lived forked processes
    "hub": ("publish", "fetch", "origin"),  # to the Hub, and from it
}


class Refused(Exception):
    """The implementation said no, in the words that this error carries."""


class Unsupported(Exception):
    """The implementation has no such feature, and does not claim to."""


class BadAdapter(Exception):
    """What `--aoti-impl` names cannot be used; the message is one sentence."""


class Call(NamedTuple):
    """The arguments of one call, in the form in which they were given."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


class Range(NamedTuple):
    """A dimension that may vary: every size from `min` to `max`, both included.

    The size is `times` times a root that the name stands for, and the ends
    are the root's: `Range("h", 2, 8, times=2)` admits 4, 6, ..., 16.
    """

    name: str
    min: int
    max: int
    times: int = 1


# {"hidden_states": {1: Range("tokens", 4, 64)}}: argument name, then dimension.
# A nested argument takes a list, tuple or dict of such tables in its own shape.
Dynamic = dict[str, Any]


@dataclass(frozen=True)
class Info:
    """Who an implementation is.

    Args:
        name: Its name on the board.
        version: Its version.
        url: Where its source lives.
        issues: Where its bugs are filed.
        packages: Import names whose files make the implementation. Their
            contents are part of the key under which packages are cached.
        cacheable: Whether what `load` reads may stand in for what `save` wrote.
            It needs `save` and `load`, or `freeze` and `thaw` of the same form
            where the implementation has nothing on disk that is as good.
        bakes_weights: Whether a compiled model carries the weights that it was
            compiled with, so that they are part of its key in the cache.
        variant: What tells two adapters of one implementation apart in the
            cache of packages. Adapters that compile alike share theirs.
    """

    name: str
    version: str
    url: str
    issues: str
    packages: tuple[str, ...] = ()
    cacheable: bool = False
    bakes_weights: bool = False
    variant: str = ""


class Adapter(Protocol):
    """What an implementation offers.

    `Exported` and `Compiled` are whatever the implementation makes of them: the
    suite only hands them on. Every verb may raise `Refused` or `Unsupported`;
    anything else that it raises counts as an error of the implementation. A
    module to which a compiled model was applied raises the implementation's own
    errors: `conformance.workbench.refuses` says which of them count as refusals.
    """

    info: Info
    capabilities: frozenset[str]

    def capture(
        self, module: nn.Module, method: str = "forward"
    ) -> AbstractContextManager[Any]:
        """Record the first call of `method` in the block, as `.args` and `.kwargs`."""

    def export(
        self, module: nn.Module, call: Any, *, dynamic: Dynamic | None = None
    ) -> Any:
        """Export `module` for `call` (anything with `.args` and `.kwargs`)."""

    def compile(self, exported: Any, *, options: dict[str, Any] | None = None) -> Any:
        """Compile what `export` returned; `options` are Inductor's, by name."""

    def apply(self, compiled: Any, module: nn.Module) -> None:
        """Make `module(...)` run `compiled` with the weights of `module`."""


class CapturesCalls(Adapter, Protocol):
    """Capability `calls`."""

    def capture_calls(self, module: nn.Module) -> AbstractContextManager[list[Any]]:
        """Record every call in the block, letting each of them run."""


class Packages(Adapter, Protocol):
    """Capability `package`."""

    def save(self, compiled: Any, folder: Path) -> None:
        """Write `compiled` into the empty folder `folder`, without weights."""

    def load(self, folder: Path) -> Any:
        """Read back what `save` wrote, as something that `apply` takes."""


class Reseals(Packages, Protocol):
    """What an adapter with packages may have; the fuzz of packages uses it."""

    def reseal(self, folder: Path) -> None:
        """Make the digests of a saved package right again, after it was changed."""


class Labels(Packages, Protocol):
    """Capability `labels`."""

    def relabel(
        self,
        folder: Path,
        *,
        compute_capability: str | None = None,
        newer_format: bool = False,
        ops: Sequence[str] = (),
    ) -> None:
        """Rewrite a saved package as if it had been made for something else.

        What is written is whole and true to itself: digests are made anew.

        Args:
            folder: What `save` wrote.
            compute_capability: Of the GPU that it is for: "9.0".
            newer_format: Whether its format is one that is not known yet.
            ops: Operators that it says it needs: `mine::attention`.
        """


class Restores(Adapter, Protocol):
    """Capability `restore`."""

    def restore(self, module: nn.Module) -> None:
        """Undo `apply`: the module runs its own Python again."""


class Workers(Adapter, Protocol):
    """Capability `worker`."""

    def worker(
        self,
        function: Callable[..., Any],
        *,
        duration_s: float | None = None,
        reuse: bool = False,
    ) -> Callable[..., Any]:
        """Make `function`, perhaps a generator's, run in a forked child."""


@dataclass(frozen=True)
class Variant:
    """An adapter made of another one, with some of its verbs exchanged.

    Mutants are built with it, and so can be adapters for a patched layer.
    """

    base: Adapter
    info: Info
    capabilities: frozenset[str]
    verbs: Mapping[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        verbs = self.__dict__["verbs"]
        return verbs[name] if name in verbs else getattr(self.__dict__["base"], name)


def load(name: str) -> Adapter:
    """Find an adapter by short name or by `package.module[:object]`.

    Raises:
        BadAdapter: There is none, it does not import, or what it declares cannot be
            true (`adapter_check` says how).
    """
    from conformance.adapter_check import check  # it knows what stands here

    target = _short_names().get(name, name)
    module_name, _, attribute = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise BadAdapter(_not_found(name, error)) from error
    for part in attribute.split(".") if attribute else ():
        if not hasattr(found, part):
            raise BadAdapter(f"adapter {name!r}: {module_name} has no {attribute!r}")
        found = getattr(found, part)
    check(name, found)
    adapter: Adapter = found
    return adapter


def module_of(name: str) -> str:
    """Name the module in which `load` looks for an adapter."""
    return _short_names().get(name, name).partition(":")[0]


def _short_names() -> dict[str, str]:
    # Those of the suite are known in a checkout that is not installed, too.
    folder = Path(__file__).with_name("adapters")
    own = {path.stem for path in folder.glob("[!_]*.py")}
    names = {name: f"conformance.adapters.{name}" for name in own}
    return names | {p.name: p.value for p in entry_points(group=ENTRY_POINTS)}


def _not_found(name: str, error: Exception) -> str:
    known = sorted(_short_names())
    hint = "".join(
        f"; did you mean {c!r}?" for c in get_close_matches(name, known, n=1)
    )
    return (
        f"adapter {name!r} cannot be imported ({type(error).__name__}: {error}){hint} "
        f"(short names: {', '.join(known) or 'none installed'}; "
        "or give package.module[:object])"
    )
