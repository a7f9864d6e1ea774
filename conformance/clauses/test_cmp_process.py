"""CMP: what a compile takes from its caller, and what it leaves behind."""

from __future__ import annotations

import copy
import gc
import re
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance import device
from conformance.clauses import _compiles
from conformance.fresh import fresh_python
from conformance.isolated import run_forked
from conformance.models.blocks import seeded
from conformance.models.compiling import Layer, Stamped, on_memories, rows
from conformance.spec import clause
from conformance.workbench import Pair, applied_copy, assert_agrees, built, declined

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter import Adapter

pytestmark = pytest.mark.usefixtures("cache")  # it keeps the compiler's headers


@clause("CMP-01")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"max_autotuna": True}, id="misspelt"),
        pytest.param({"aot_inductor.package_constants_on_disc": True}, id="nested"),
        pytest.param(
            {"max_autotune": False, "no_such_option": None}, id="among-others"
        ),
    ],
)
def test_compile_refuses_and_names_an_unknown_option(
    impl: Adapter, options: dict[str, Any]
) -> None:
    exported = impl.export(seeded(Layer), rows())
    name = list(options)[-1]

    with declined("compile", name):
        impl.compile(exported, options=options)


@clause("CMP-03")
@pytest.mark.parametrize(
    "options",
    [{}, {"max_autotune": False, "aot_inductor.metadata": {"owner": "me"}}],
    ids=["empty", "nested"],
)
def test_compile_leaves_the_options_of_its_caller_alone(
    impl: Adapter, options: dict[str, Any]
) -> None:
    exported = impl.export(seeded(Layer), rows())
    before = copy.deepcopy(options)

    impl.compile(exported, options=options)

    assert options == before


@clause("CMP-04")
def test_compile_leaves_the_process_as_it_was(impl: Adapter) -> None:
    exported = impl.export(seeded(Layer), rows())
    before = _compiles.surroundings()

    impl.compile(exported, options={"max_autotune": False})

    assert _compiles.differences(before, _compiles.surroundings()) == []


@pytest.fixture
def failing_compiler(tmp_path: Path) -> Path:
    """A C++ compiler that says its version, and cannot compile."""
    compiler = tmp_path / "failing-compiler"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "g++ 13.0.0" && exit 0\n'
        "echo 'this compiler cannot compile' >&2\nexit 1\n"
    )
    compiler.chmod(0o755)
    return compiler


def _failed(tmp_path: Path, adapter_name: str, compiler: Path) -> dict[str, Any]:
    """Compile in a fresh Python, with empty caches and a TMPDIR of its own."""
    folders = {n: tmp_path / n for n in ("temporary", "inductor")}
    for folder in folders.values():
        folder.mkdir()
    completed = fresh_python(
        "conformance.clauses._compiles:compile_that_fails",
        adapter_name,
        env={
            "CXX": str(compiler),
            "TMPDIR": str(folders["temporary"]),
            "TORCHINDUCTOR_CACHE_DIR": str(folders["inductor"]),
        },
        timeout_s=120,
    )
    return dict(completed.value)


@clause("CMP-04")
def test_a_failed_compile_leaves_the_process_as_it_was(
    tmp_path: Path, adapter_name: str, failing_compiler: Path
) -> None:
    outcome = _failed(tmp_path, adapter_name, failing_compiler)

    assert outcome["failed"], outcome["words"]
    assert outcome["changed"] == []


@clause("CMP-17")
def test_compile_without_a_compiler_is_refused_in_words_that_say_so(
    tmp_path: Path, adapter_name: str
) -> None:
    outcome = _failed(tmp_path, adapter_name, tmp_path / "no-such-program")

    words = outcome["words"]
    assert outcome["refused"], f"compile raised none of its refusals: {words}"
    named = re.search(r"compiler|\bCXX\b|no-such-program", words, re.IGNORECASE)
    assert named, f"the refusal does not name the compiler: {words}"
    _assert_unharmed(outcome)


@clause("CMP-18")
def test_a_failed_compile_leaves_no_files_and_a_usable_module(
    tmp_path: Path, adapter_name: str, failing_compiler: Path
) -> None:
    outcome = _failed(tmp_path, adapter_name, failing_compiler)

    assert outcome["failed"], outcome["words"]
    _assert_unharmed(outcome)


def _assert_unharmed(outcome: dict[str, Any]) -> None:
    __tracebackhide__ = True
    assert outcome["usable"], "the module answers no more as it did"
    left = outcome["left"]
    assert left == [], f"{len(left)} are left in the folder for temporary files: {left}"


@clause("CMP-20")
def test_compiled_model_holds_on_to_no_weights(impl: Adapter) -> None:
    device.choose("cpu")  # what is watched here is ordinary memory
    module = seeded(Layer)
    memories = [weakref.ref(memory) for memory in on_memories(module)]
    exported = impl.export(module, rows())

    compiled = impl.compile(exported)
    del module, exported
    gc.collect()

    held = [memory() for memory in memories if memory() is not None]
    assert held == [], f"{len(held)} of {len(memories)} weights are held in memory"
    other = seeded(Layer, 1)
    assert_agrees(Pair(other, applied_copy(impl, compiled, other)), rows())


@clause("CMP-21")
def test_compile_leaves_no_process_behind(impl: Adapter) -> None:
    exported = impl.export(seeded(Layer), rows())

    with torch._inductor.config.patch(compile_threads=2):  # where GPUs are, a pool
        impl.compile(exported)

    assert _compiles.lingering_processes(within_s=5) == []


@clause("CMP-23")
def test_an_exported_program_compiles_twice(impl: Adapter) -> None:
    module = seeded(Layer)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    exported = impl.export(module, rows())

    impl.compile(exported)
    again = impl.compile(exported)

    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)
    assert_agrees(Pair(module, applied_copy(impl, again, module)), rows())


@clause("CMP-24", deadline_s=600)
def test_two_processes_compile_one_graph_at_once(impl: Adapter) -> None:
    stamp = time.time_ns()

    def compile_and_call() -> None:
        module = seeded(lambda: Stamped(stamp))
        assert_agrees(built(impl, module, rows()), rows(seed=1))

    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(run_forked, compile_and_call, deadline_s=500) for _ in range(2)
        ]
    endings = [job.result() for job in jobs]

    assert [ending.kind for ending in endings] == ["answer"] * 2, endings
