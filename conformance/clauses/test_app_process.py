"""Chapter APP: applied modules between processes, in memory, and restored."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate.hooks import add_hook_to_module
from torch import nn

from conformance.clauses import _loads
from conformance.clauses._applied import Counting, unless_refused
from conformance.fresh import fresh_python
from conformance.models import applying, blocks, tables
from conformance.spec import clause
from conformance.workbench import (
    Pair,
    assert_equal_or_refused,
    attempt,
    declined,
    pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter, Packages, Restores
    from conformance.cache import PackageCache

CODE_BYTES = 24 * 2**20  # what a first call may need beside weights


@pytest.fixture
def compiled(cache: PackageCache, seed: int) -> Any:
    return cache.compiled(blocks.seeded(applying.Kinds, seed), applying.kinds_call())


@pytest.fixture
def kinds(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    """Give a pair that was called: what is native is there."""
    module = blocks.seeded(applying.Kinds, seed)
    twins = pair(impl, cache, module, applying.kinds_call())
    twins.applied(*applying.kinds_call().args)
    return twins


@clause("APP-14")
def test_restore_gives_the_eager_module_back(
    impl: Restores, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    applied = pair(impl, cache, module, blocks.call()).applied
    applied(**blocks.call().kwargs)
    for one in (module, applied):
        one.get_parameter("blocks.1.out.weight").data.mul_(1.5)

    impl.restore(applied)
    blocks.entered.clear()
    restored = applied(**blocks.call(5).kwargs)[0]

    assert blocks.entered == ["Block"] * 3
    assert torch.equal(restored, module(**blocks.call(5).kwargs)[0])


@clause("APP-14")
def test_restore_refuses_where_nothing_was_applied(impl: Restores) -> None:
    with declined("restore"):
        impl.restore(blocks.seeded(blocks.Stack))


@clause("APP-14")
def test_a_second_restore_is_refused(impl: Restores, kinds: Pair) -> None:
    impl.restore(kinds.applied)

    with declined("restore"):
        impl.restore(kinds.applied)

    x = applying.kinds_call(1).args[0]
    assert torch.equal(kinds.applied(x), kinds.eager(x))


@clause("APP-14")
def test_one_restore_undoes_two_applies(
    impl: Restores, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    compiled = cache.compiled(blocks.seeded(blocks.Stack, seed), blocks.call())
    impl.apply(compiled, module)
    unless_refused(lambda: impl.apply(compiled, module))
    blocks.entered.clear()

    impl.restore(module)
    module(**blocks.call().kwargs)

    assert blocks.entered == ["Block"] * 3


@clause("APP-14")
def test_restore_works_on_what_came_out_of_pickle(impl: Restores, kinds: Pair) -> None:
    x = applying.kinds_call(1).args[0]

    for twin in unless_refused(lambda: pickle.loads(pickle.dumps(kinds.applied))):  # noqa: S301  # our own
        impl.restore(twin)
        assert torch.equal(twin(x), kinds.eager(x))


@clause("APP-14")
def test_restore_gives_back_a_forward_of_the_instance(
    impl: Restores, compiled: Any, seed: int
) -> None:
    module, x = blocks.seeded(applying.Kinds, seed), applying.kinds_call(1).args[0]
    seen: list[str] = []

    def own(x: torch.Tensor) -> Any:
        seen.append("own")
        return applying.Kinds.forward(module, x)  # type: ignore[arg-type]

    module.forward = own

    for _ in unless_refused(lambda: impl.apply(compiled, module)):
        module(x)
        impl.restore(module)
        seen.clear()
        module(x)
        assert seen == ["own"]


@clause("APP-14")
def test_restore_works_under_an_offloading_hook(impl: Restores, kinds: Pair) -> None:
    x = applying.kinds_call(1).args[0]
    for module in kinds:
        add_hook_to_module(module, Counting())

    impl.restore(kinds.applied)

    assert torch.equal(kinds.applied(x), kinds.eager(x))


@clause("APP-17")
def test_a_pickled_module_is_right_or_refused(
    kinds: Pair, adapter_name: str, tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "module.pickle"

    for text in unless_refused(lambda: pickle.dumps(kinds.applied)):
        path.write_bytes(text)
        task = "conformance.clauses._loads:unpickled_module"
        found = fresh_python(task, adapter_name, str(path), seed).value
        _loads.assert_told(found, kinds.eager, applying.kinds_call(seed))


@clause("APP-17")
def test_a_pickled_module_has_the_weights_of_its_moment(kinds: Pair) -> None:
    for module in kinds:
        module.get_parameter("first.weight").mul_(1.5)
        module.get_buffer("hidden").mul_(3)

    for twin in unless_refused(lambda: pickle.loads(pickle.dumps(kinds.applied))):  # noqa: S301  # our own
        assert_equal_or_refused(Pair(kinds.eager, twin), applying.kinds_call(1))


@clause("APP-17")
def test_a_pickled_compiled_model_is_right_or_refused(
    impl: Adapter, compiled: Any, adapter_name: str, tmp_path: Path, seed: int
) -> None:
    module, path = blocks.seeded(applying.Kinds, seed), tmp_path / "compiled.pickle"
    eager = copy.deepcopy(module)
    impl.apply(compiled, module)
    module(*applying.kinds_call().args)

    for text in unless_refused(lambda: pickle.dumps(compiled)):
        path.write_bytes(text)
        task = "conformance.clauses._loads:unpickled_compiled"
        found = fresh_python(task, adapter_name, str(path), seed).value
        _loads.assert_told(found, eager, applying.kinds_call(seed))


@clause("APP-18")
def test_a_cold_process_can_load(
    impl: Packages, compiled: Any, adapter_name: str, tmp_path: Path, seed: int
) -> None:
    impl.save(compiled, tmp_path)

    task = "conformance.clauses._loads:answer"
    found = fresh_python(task, adapter_name, str(tmp_path), seed).value

    eager = blocks.seeded(applying.Kinds, seed)
    _loads.assert_told(found, eager, applying.kinds_call(seed))


@clause("APP-19")
def test_loading_needs_no_compiler(
    impl: Packages, compiled: Any, adapter_name: str, tmp_path: Path, seed: int
) -> None:
    package, empty = tmp_path / "package", tmp_path / "empty"
    for folder in (package, empty):
        folder.mkdir()
    impl.save(compiled, package)
    bare = {
        "PATH": str(empty),
        "CXX": str(empty / "none"),
        "CC": str(empty / "none"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
    }

    task = "conformance.clauses._loads:answer"
    done = fresh_python(task, adapter_name, str(package), seed, env=bare)

    eager = blocks.seeded(applying.Kinds, seed)
    _loads.assert_told(done.value, eager, applying.kinds_call(seed))
    assert done.seconds < 30


@clause("APP-20")
@pytest.mark.parametrize(
    ("make", "draw"),
    [(applying.Wide, applying.wide_call), (tables.Table, tables.call)],
    ids=["parameter", "buffer"],
)
def test_apply_makes_no_second_copy(
    impl: Adapter,
    cache: PackageCache,
    seed: int,
    make: type[nn.Module],
    draw: Callable[[], Any],
) -> None:
    call = draw()
    compiled = cache.compiled(blocks.seeded(make, seed), call)
    module = blocks.seeded(make, seed)
    weights = sum(t.nbytes for t in [*module.parameters(), *module.buffers()])
    module(*call.args)
    gc.collect()
    tensors, resident = tensor_bytes(), resident_bytes()

    impl.apply(compiled, module)
    module(*call.args)
    gc.collect()

    assert tensor_bytes() - tensors < 0.1 * weights
    assert resident_bytes() - resident < 0.1 * weights + CODE_BYTES


def tensor_bytes() -> int:
    """Add up the storages of all tensors that Python can reach."""
    storages = {}
    for found in gc.get_objects():
        if type(found) in (torch.Tensor, nn.Parameter):
            with contextlib.suppress(RuntimeError):  # a fake tensor in disguise
                storage = found.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def resident_bytes() -> int:
    """Read this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096


@clause("APP-21")
@pytest.mark.parametrize("refusals", [0, 1])
def test_a_deleted_module_is_freed(
    impl: Adapter, compiled: Any, seed: int, refusals: int
) -> None:
    module = blocks.seeded(applying.Kinds, seed)
    tensors = [weakref.ref(t) for t in [*module.parameters(), *module.buffers()]]
    impl.apply(compiled, module)
    module(*applying.kinds_call().args)
    for _ in range(refusals):
        attempt(module)
    tensors += [weakref.ref(t) for t in [*module.parameters(), *module.buffers()]]

    del module
    gc.collect()

    assert [ref for ref in tensors if ref() is not None] == []
