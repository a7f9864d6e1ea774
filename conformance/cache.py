"""Compile once: packages kept on disk by implementation, torch, recipe and options."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import os
import re
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from filelock import FileLock
from torch.utils import _pytree as pytree

from conformance.tensors import inside, made_of_others

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import nn

    from conformance.adapter import Adapter, Dynamic
    from conformance.adapter_graphs import ChoosesAttention, Regional, Variants


def keep_inductor_in(root: Path) -> None:
    """Let Inductor's own cache be beside packages, in the folder of all caches.

    It holds the compiler's precompiled headers: 20 s a process.
    """
    inductor = root / "inductor" / torch.__version__
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(inductor)


class PackageCache:
    """Compiled models of one implementation.

    Children of one run, and runs after it, find what was compiled before. An
    implementation that is not cacheable compiles anew every time.

    Args:
        root: The folder of all caches; made when needed.
        adapter: The implementation.
    """

    def __init__(self, root: Path, adapter: Adapter) -> None:
        self.adapter = adapter
        self.root = root
        self._packages = root / "packages"
        keep_inductor_in(root)

    def compiled(
        self,
        module: nn.Module,
        call: Any,
        *,
        dynamic: Dynamic | None = None,
        options: dict[str, Any] | None = None,
        attention: str | None = None,
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> Any:
        """Give `module` compiled for `call`, from the cache where it has it.

        The key has the shapes and the code of the module, not its weights: what
        comes back holds for every module of the same recipe.

        Args:
            module: What is compiled.
            call: What it is compiled for.
            dynamic: Ranges; for who does not declare them there are none.
            options: Inductor's.
            attention: The backend of attention; None chooses none.
            around: Makes what the export happens in. It is no part of the key: only
                for classes of modules that are compiled in no other way.
        """
        impl = self.adapter
        dynamic = dynamic if "dynamic" in impl.capabilities else None
        recipe = {
            "dynamic": repr(dynamic),
            "options": repr(sorted((options or {}).items())),
            **({"attention": attention} if attention else {}),
        }

        def export() -> Any:
            if attention is None:
                return impl.export(module, call, dynamic=dynamic)
            chooses = cast("ChoosesAttention", impl)
            return chooses.export_attending(module, call, attention, dynamic=dynamic)

        def make() -> Any:
            with around():
                exported = export()
            return impl.compile(exported, options=options)

        return self._made(make, self._key(module, call, recipe))

    def regions(
        self,
        module: nn.Module,
        call: Any,
        *,
        run: Callable[[], object] | None = None,
        **choices: Any,
    ) -> Any:
        """Give the compiled blocks of `module`, from the cache where it has them.

        Args:
            module: The module with the blocks.
            call: How it is called, for the key, and unless `run` calls it.
            run: Calls it from within a pipeline.
            choices: For `compile_regions`.
        """
        impl = cast("Regional", self.adapter)

        def once() -> object:
            with torch.no_grad():
                return module(*call.args, **call.kwargs)

        def make() -> Any:
            return impl.compile_regions(module, run or once, **choices)

        recipe = {"regions": repr(sorted(choices.items()))}
        return self._made(make, self._key(module, call, recipe))

    def variants(
        self, module: nn.Module, calls: Sequence[Any], *, dynamic: Dynamic | None = None
    ) -> Any:
        """Give `module` compiled for all calls, from the cache where it has it."""
        impl = cast("Variants", self.adapter)

        def make() -> Any:
            return impl.compile_variants(module, calls, dynamic=dynamic)

        spelt = [_spell_call(call) for call in calls]
        recipe = {"variants": repr(spelt), "dynamic": repr(dynamic)}
        return self._made(make, self._key(module, calls[0], recipe))

    def _made(self, make: Callable[[], Any], key: str) -> Any:
        """Give what `make` makes, or has made for this key before."""
        if not self.adapter.info.cacheable:
            return make()
        folder = self._packages / key
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                self._keep(make(), folder)
        return self._verb("thaw", "load")(folder)

    def _keep(self, compiled: Any, folder: Path) -> None:
        """Save beside `folder` first, so that half a package never counts as one."""
        with tempfile.TemporaryDirectory(dir=folder.parent) as parent:
            made = Path(parent) / "package"
            made.mkdir()
            self._verb("freeze", "save")(compiled, made)
            shutil.move(made, folder)

    def _verb(self, own: str, of_packages: str) -> Callable[..., Any]:
        """Give the verb for the cache alone, or else the one of `package`."""
        name = own if hasattr(self.adapter, own) else of_packages
        verb: Callable[..., Any] = getattr(self.adapter, name)
        return verb

    def _key(
        self,
        module: nn.Module,
        call: Any,
        recipe: dict[str, str],
    ) -> str:
        info = self.adapter.info
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        parts = {
            "implementation": [info.name, info.version, info.variant],
            "sources": [_sources(name) for name in info.packages],
            **_own_file(self.adapter),
            "torch": torch.__version__,
            "device": sorted({str(tensor.device) for tensor in tensors.values()}),
            "module": [_code(child) for child in _kinds(module)],
            "config": repr(getattr(module, "config", None)),
            "tensors": {name: _spell(tensor) for name, tensor in tensors.items()},
            "weights": _weights(module) if info.bakes_weights else "",
            "call": _spell_call(call),
            **recipe,
        }
        text = json.dumps(parts, sort_keys=True)
        own = re.sub(r"[^\w.-]", "_", info.name)  # a name may be of any form
        name = f"{own}-{type(module).__name__}"
        return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _own_file(adapter: Any) -> dict[str, str]:
    """Digest the file of an adapter that is none of the suite's: it may hold a layer.

    The suite's own translate only, and mutants of one share its packages.
    """
    path: str | None = getattr(adapter, "__file__", None)
    if path is None or adapter.__name__.startswith("conformance."):
        return {}
    return {"adapter": _digest(Path(path))}


def _weights(module: nn.Module) -> str:
    """Digest the values of every tensor that hangs on a module."""
    digest = hashlib.sha256()
    for name, child in module.named_modules():
        plain = {k: v for k, v in vars(child).items() if isinstance(v, torch.Tensor)}
        for key, tensor in {**child._parameters, **child._buffers, **plain}.items():
            if tensor is None:
                continue
            for _, part in inside(tensor):
                raw = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(f"{name}.{key}".encode() + raw.numpy().tobytes())
    return digest.hexdigest()


def _kinds(module: nn.Module) -> list[type]:
    kinds = {type(child) for child in module.modules()}
    return sorted(kinds, key=lambda kind: f"{kind.__module__}.{kind.__qualname__}")


def _code(kind: type) -> str:
    """Name a class, with a digest of its file where it is nobody's release."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if not kind.__module__.startswith("conformance."):
        return name
    path = inspect.getsourcefile(kind)
    return f"{name}:{_digest(Path(path))}" if path else name


def _sources(package: str) -> str:
    """Digest the code of a package: a changed layer compiles anew."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        return "absent"
    if not spec.submodule_search_locations:
        return _digest(Path(spec.origin)) if spec.origin else "absent"
    digest = hashlib.sha256()
    for root in map(Path, spec.submodule_search_locations):  # several, of a namespace
        for path in _files_with_code(root):
            digest.update(f"{path.relative_to(root)} {_digest(path)}\n".encode())
    return digest.hexdigest()


def _files_with_code(root: Path) -> Iterator[Path]:
    yield from sorted(
        path for ending in ("py", "so") for path in root.rglob(f"*.{ending}")
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:24]


def _spell_call(call: Any) -> str:
    leaves, spec = pytree.tree_flatten((tuple(call.args), dict(call.kwargs)))
    values = [_spell(x) if isinstance(x, torch.Tensor) else repr(x) for x in leaves]
    return f"{spec} {values}"


def _spell(tensor: Any) -> str:
    spelt = f"{tensor.dtype} {tuple(tensor.shape)} {tensor.stride()}"
    if not made_of_others(tensor):
        return spelt
    names, context = tensor.__tensor_flatten__()
    inner = {name: _spell(getattr(tensor, name)) for name in names}
    return f"{type(tensor).__name__} {spelt} {inner} {context}"
