"""Chapter APP: what an applied module still is, and what apply leaves alone."""

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import pickle
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn

from conformance.adapter import Refused
from conformance.clauses import _loads
from conformance.fresh import fresh_python
from conformance.models import applying, blocks
from conformance.spec import clause
from conformance.workbench import Pair, assert_agrees, attempt, is_refusal, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter, Packages
    from conformance.cache import PackageCache


@pytest.fixture
def kinds(impl: Adapter, cache: PackageCache, seed: int) -> Pair:
    module = blocks.seeded(applying.Kinds, seed)
    return pair(impl, cache, module, applying.kinds_call())


@pytest.fixture
def adapter_name(request: pytest.FixtureRequest) -> str:
    """The name under which another process finds the implementation."""
    return str(request.config.getoption("aoti_impl"))


def drops_a_weight(module: nn.Module) -> None:
    module.first.weight = None  # type: ignore[union-attr, assignment]


def reshapes_a_weight(module: nn.Module) -> None:
    module.first.bias = nn.Parameter(torch.ones(2), requires_grad=False)  # type: ignore[union-attr, assignment]


def widens_a_weight(module: nn.Module) -> None:
    module.first.bias.data = module.first.bias.double()  # type: ignore[union-attr, operator]


def drops_a_buffer(module: nn.Module) -> None:
    del module.hidden


def narrows_a_buffer(module: nn.Module) -> None:
    module.shift = torch.ones(4, dtype=torch.bfloat16)  # type: ignore[assignment]


MISFITS = [
    drops_a_weight,
    reshapes_a_weight,
    widens_a_weight,
    drops_a_buffer,
    narrows_a_buffer,
]


@clause("APP-03")
@pytest.mark.parametrize("misfit", MISFITS)
def test_apply_refuses_a_misfit_and_leaves_it_as_found(
    impl: Adapter,
    cache: PackageCache,
    misfit: Callable[[nn.Module], None],
) -> None:
    compiled = cache.compiled(blocks.seeded(applying.Kinds), applying.kinds_call())
    module = blocks.seeded(applying.Kinds)
    misfit(module)
    before = identities(module)

    with pytest.raises(Refused):
        impl.apply(compiled, module)

    assert identities(module) == before
    assert "forward" not in vars(module)


def identities(module: nn.Module) -> dict[str, Any]:
    """List the tensors of a module by identity, address, dtype, shape and value."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {n: (id(t), t.data_ptr(), t.dtype, t.shape, t.tolist()) for n, t in named}


@clause("APP-05")
def test_parameters_buffers_and_ties_stay_what_they_are(kinds: Pair) -> None:
    eager, applied = kinds

    for module in (eager, applied):
        module(*applying.kinds_call().args)

    assert roles(applied) == roles(eager)
    assert applied.first.weight is applied.second.weight  # type: ignore[union-attr]


def roles(module: nn.Module) -> dict[str, Any]:
    """List what each tensor is to its module."""
    stored = set(module.state_dict())
    parameters = module.named_parameters(remove_duplicate=False)
    buffers = module.named_buffers(remove_duplicate=False)
    found: dict[str, Any] = {
        name: ("parameter", type(p).__name__, p.requires_grad, tuple(p.shape))
        for name, p in parameters
    }
    found |= {n: ("buffer", n in stored, tuple(b.shape)) for n, b in buffers}
    return found


@clause("APP-06")
def test_the_module_looks_as_before(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    module = blocks.seeded(blocks.Stack, seed)
    module.own = {"set": "by the user"}  # type: ignore[assignment]
    applied = pair(impl, cache, module, blocks.call()).applied

    applied(**blocks.call().kwargs)

    for name in ("config", "dtype", "device", "training", "own", "_repeated_blocks"):
        assert getattr(applied, name) == getattr(module, name)
    assert isinstance(applied, blocks.Stack)
    assert [type(child) for child in applied.modules()] == [
        type(child) for child in module.modules()
    ]


@clause("APP-07")
def test_the_signature_survives(impl: Adapter, cache: PackageCache, seed: int) -> None:
    eager, applied = pair(impl, cache, blocks.seeded(blocks.Stack, seed), blocks.call())

    found = inspect.signature(applied.forward).parameters

    want = inspect.signature(eager.forward).parameters
    assert list(found) == list(want)
    assert [p.default for p in found.values()] == [p.default for p in want.values()]
    assert [p.kind for p in found.values()] == [p.kind for p in want.values()]


@clause("APP-08")
def test_the_hooks_of_the_module_run_once_in_order(kinds: Pair) -> None:
    order: dict[int, list[str]] = {}
    for module in kinds:
        seen = order.setdefault(id(module), [])
        module.register_forward_pre_hook(_before(seen))
        module.register_forward_hook(_after(seen))

    assert_agrees(kinds, applying.kinds_call(1))

    assert order[id(kinds.applied)] == ["before", "after"]


def _before(seen: list[str]) -> Any:
    def hook(_module: nn.Module, args: Any) -> Any:
        seen.append("before")
        return (args[0] * 2,)

    return hook


def _after(seen: list[str]) -> Any:
    def hook(_module: nn.Module, _args: Any, result: Any) -> Any:
        seen.append("after")
        return result + 1

    return hook


@clause("APP-09")
def test_a_hook_on_a_child_runs_or_apply_refuses(
    impl: Adapter, cache: PackageCache
) -> None:
    compiled = cache.compiled(blocks.seeded(applying.Kinds), applying.kinds_call())
    module = blocks.seeded(applying.Kinds)
    seen: list[str] = []
    module.get_submodule("first").register_forward_hook(lambda *_: seen.append("child"))

    ended = attempt(lambda: impl.apply(compiled, module))
    if ended.error is None:
        module(*applying.kinds_call().args)

    assert isinstance(ended.error, Refused) or seen == ["child"]


@clause("APP-10")
def test_the_state_dict_stays_true(kinds: Pair) -> None:
    want = kinds.eager.state_dict()

    ended = attempt(kinds.applied.state_dict)

    assert ended.error is None or is_refusal(ended.error)
    for name, tensor in want.items() if ended.error is None else ():
        assert torch.equal(ended.value[name], tensor)
    if ended.error is None:
        assert list(ended.value) == list(want)


@clause("APP-17")
def test_pickling_is_right_or_refused(kinds: Pair, tmp_path: Path, seed: int) -> None:
    want = _loads.called(kinds.eager, seed)
    path = tmp_path / "module.pickle"

    ended = attempt(lambda: path.write_bytes(pickle.dumps(kinds.applied)))

    assert ended.error is None or is_refusal(ended.error)
    if ended.error is None:
        task = "conformance.clauses._loads:unpickled"
        found = fresh_python(task, str(path), seed).value
        torch.testing.assert_close(torch.tensor(found), torch.tensor(want))


@clause("APP-18")
def test_a_cold_process_can_load(
    impl: Packages, cache: PackageCache, adapter_name: str, tmp_path: Path, seed: int
) -> None:
    module = blocks.seeded(applying.Kinds, seed)
    want = _loads.called(module, seed)
    source = blocks.seeded(applying.Kinds, seed)
    impl.save(cache.compiled(source, applying.kinds_call()), tmp_path)

    task = "conformance.clauses._loads:answer"
    found = fresh_python(task, adapter_name, str(tmp_path), seed).value

    torch.testing.assert_close(torch.tensor(found), torch.tensor(want))


@clause("APP-19")
def test_loading_needs_no_compiler(
    impl: Packages, cache: PackageCache, adapter_name: str, tmp_path: Path, seed: int
) -> None:
    want = _loads.called(blocks.seeded(applying.Kinds, seed), seed)
    source = blocks.seeded(applying.Kinds, seed)
    package, empty = tmp_path / "package", tmp_path / "empty"
    for folder in (package, empty):
        folder.mkdir()
    impl.save(cache.compiled(source, applying.kinds_call()), package)

    bare = {
        "PATH": str(empty),
        "CXX": str(empty / "none"),
        "CC": str(empty / "none"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
    }
    task = "conformance.clauses._loads:answer"
    done = fresh_python(task, adapter_name, str(package), seed, env=bare)

    torch.testing.assert_close(torch.tensor(done.value), torch.tensor(want))
    assert done.seconds < 30


@clause("APP-20")
def test_apply_makes_no_second_copy(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    compiled = cache.compiled(blocks.seeded(applying.Wide, seed), applying.wide_call())
    module = blocks.seeded(applying.Wide, seed)
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    call = applying.wide_call()
    module(*call.args)
    gc.collect()
    tensors, resident = tensor_bytes(), resident_bytes()

    impl.apply(compiled, module)
    module(*call.args)
    gc.collect()

    assert tensor_bytes() - tensors < 0.1 * weights
    assert resident_bytes() - resident < 0.1 * weights + 24 * 2**20


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
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@clause("APP-21")
def test_a_deleted_module_is_freed(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    compiled = cache.compiled(
        blocks.seeded(applying.Kinds, seed), applying.kinds_call()
    )
    module = blocks.seeded(applying.Kinds, seed)
    weights = [weakref.ref(p) for p in module.parameters()]
    impl.apply(compiled, module)
    module(*applying.kinds_call().args)
    held = [weakref.ref(p) for p in module.parameters()]

    del module
    gc.collect()

    assert [ref() for ref in [*weights, *held]] == [None] * (len(weights) + len(held))


class Counting(ModelHook):
    """Doubles what comes in, as an offloading hook moves it."""

    def __init__(self) -> None:
        super().__init__()
        self.before = 0

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.before += 1
        return tuple(arg * 2 for arg in args), kwargs


@clause("APP-23")
def test_offloading_hooks_run_or_apply_refuses(
    impl: Adapter, cache: PackageCache, seed: int
) -> None:
    compiled = cache.compiled(
        blocks.seeded(applying.Kinds, seed), applying.kinds_call()
    )
    eager = blocks.seeded(applying.Kinds, seed)
    applied, hook = copy.deepcopy(eager), Counting()
    add_hook_to_module(applied, hook)
    add_hook_to_module(eager, Counting())

    ended = attempt(lambda: impl.apply(compiled, applied))

    assert isinstance(ended.error, (Refused, type(None)))
    if ended.error is None:
        x = applying.kinds_call(1).args[0]
        torch.testing.assert_close(applied(x), eager(x))
        assert hook.before == 1
