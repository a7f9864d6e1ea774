"""What the reference writes, `spaces` applies; and what that writes, the reference.

    python -m nox -s interchange

Each test is in a child of its own, as the clauses are: what `spaces` loads stays.
"""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import torch

import aoti_ref
from aoti_ref import spaces_api
from conformance import isolated
from conformance.adapters import reference, spaces
from conformance.cache import PackageCache
from conformance.models import blocks, calls
from conformance.workbench import ran_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.adapter import Adapter

_DEADLINE_S = 300
aoti: Any = vars(spaces)["aoti"]  # the adapter knows how to import it on a CPU


@pytest.fixture(scope="session")
def root(request: pytest.FixtureRequest) -> Path:
    """The folder of the package cache."""
    return Path(request.config.getoption("aoti_cache"))


def _apart(function: Callable[[], Any]) -> Any:
    ending = isolated.run_forked(function, deadline_s=_DEADLINE_S)
    assert ending.kind == "answer", ending.text
    return ending.answer


def _compiled(adapter: Any, root: Path, module: torch.nn.Module) -> Any:
    impl: Adapter = adapter
    return PackageCache(root, impl).compiled(module, blocks.call())


def _assert_answers(module: torch.nn.Module, eager: torch.nn.Module) -> None:
    """Assert that a module answers as its eager twin, without entering its children."""
    call = blocks.call(seed=3)
    with torch.no_grad():
        wanted = eager(**call.kwargs)
        with ran_compiled(module):
            found = module(**call.kwargs)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def _assert_blocks_answer(module: Any, eager: torch.nn.Module) -> None:
    call = blocks.call(seed=3)
    with torch.no_grad():
        wanted = eager(**call.kwargs)
        blocks.entered.clear()
        found = module(**call.kwargs)
    assert blocks.entered == []
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def _ours(call: Any) -> aoti_ref.Call:
    return aoti_ref.Call(call.args, call.kwargs)


def _block_call() -> Any:
    """A call of a Block as a Stack makes it."""
    return type(blocks.call())((blocks.hidden_states(),), {"scale": 1.0})


def _block(adapter: Any, root: Path, seed: int) -> Any:
    impl: Adapter = adapter
    module = blocks.seeded(blocks.Block, seed)
    return PackageCache(root, impl).compiled(module, _block_call())


def test_spaces_applies_a_module_of_ours(root: Path, tmp_path: Path) -> None:
    def run() -> None:
        compiled = _compiled(reference, root, blocks.seeded(blocks.Stack))
        aoti_ref.save_folder(compiled, tmp_path / "package")
        module, eager = (blocks.seeded(blocks.Stack, 1) for _ in range(2))

        aoti.aoti_load_from_package_dir(module, tmp_path / "package")

        _assert_answers(module, eager)

    _apart(run)


def test_we_apply_a_module_of_spaces(root: Path, tmp_path: Path) -> None:
    def run() -> None:
        made = _compiled(spaces, root, blocks.seeded(blocks.Stack))
        made.save(tmp_path)  # root/package.pt2, as aoti_compile_and_save writes it
        module, eager = (blocks.seeded(blocks.Stack, 1) for _ in range(2))
        program = aoti_ref.export(module, _ours(blocks.call()))

        spaces_api.aoti_load_from_package_dir(module, tmp_path, {"": program})

        _assert_answers(module, eager)

    _apart(run)


def test_we_refuse_a_module_of_spaces_without_its_program(
    root: Path, tmp_path: Path
) -> None:
    def run() -> None:
        _compiled(spaces, root, blocks.seeded(blocks.Stack)).save(tmp_path)
        module = blocks.seeded(blocks.Stack)
        other = aoti_ref.export(blocks.seeded(calls.Many), _ours(calls.many_call()))

        with pytest.raises(aoti_ref.NotInterchangeable, match="program"):
            spaces_api.aoti_load_from_package_dir(module, tmp_path)
        with pytest.raises(aoti_ref.NotInterchangeable, match="constant"):
            spaces_api.aoti_load_from_package_dir(module, tmp_path, {"": other})

        assert "forward" not in vars(module)

    _apart(run)


def test_spaces_applies_submodules_of_ours(root: Path, tmp_path: Path) -> None:
    def run() -> None:
        compiled = _block(reference, root, 0)
        path = tmp_path / "submodules" / "blocks" / "package.pt2"
        path.parent.mkdir(parents=True)
        compiled.save(path)
        module, eager = (blocks.seeded(blocks.Stack, 1) for _ in range(2))

        aoti.aoti_load_from_package_dir(module, tmp_path)

        _assert_blocks_answer(module, eager)

    _apart(run)


def test_we_apply_submodules_of_ours_and_of_spaces(root: Path, tmp_path: Path) -> None:
    def run() -> None:
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        for folder in (ours, theirs):
            (folder / "submodules" / "blocks").mkdir(parents=True)
        _block(reference, root, 0).save(ours / "submodules/blocks/package.pt2")
        _block(spaces, root, 0).save(tmp_path)
        shutil.copy(tmp_path / "root/package.pt2", theirs / "submodules/blocks")
        program = aoti_ref.export(blocks.seeded(blocks.Block), _block_call())
        eager = blocks.seeded(blocks.Stack, 1)
        one, other = (blocks.seeded(blocks.Stack, 1) for _ in range(2))

        spaces_api.aoti_load_from_package_dir(one, ours)
        spaces_api.aoti_load_from_package_dir(other, theirs, {"blocks": program})

        _assert_blocks_answer(one, eager)
        _assert_blocks_answer(other, eager)

    _apart(run)


def test_blocks_go_both_ways(root: Path, tmp_path: Path) -> None:
    def run() -> None:
        path = tmp_path / "ours" / "Block.v2" / "package.pt2"
        path.parent.mkdir(parents=True)
        _block(reference, root, 0).save(path)
        _block(spaces, root, 0).save(tmp_path)
        (tmp_path / "theirs" / "Block").mkdir(parents=True)
        shutil.copy(tmp_path / "root/package.pt2", tmp_path / "theirs/Block")
        program = aoti_ref.export(blocks.seeded(blocks.Block), _block_call())
        eager = blocks.seeded(blocks.Stack, 1)
        by_spaces, by_us = (blocks.seeded(blocks.Stack, 1) for _ in range(2))

        with patch("huggingface_hub.hf_hub_download", _from(tmp_path / "ours")):
            aoti.aoti_blocks_load(by_spaces, "local/blocks", variant="v2")
        programs = {"Block": program}
        where = tmp_path / "theirs"
        spaces_api.aoti_load_from_blocks_dir(by_us, where, programs=programs)

        _assert_blocks_answer(by_spaces, eager)
        _assert_blocks_answer(by_us, eager)

    _apart(run)


def test_regions_are_saved_as_spaces_expects_blocks(root: Path, tmp_path: Path) -> None:
    def run() -> None:
        impl: Any = reference
        cache = PackageCache(root, impl)
        compiled = cache.regions(blocks.seeded(blocks.Stack), blocks.call())
        aoti_ref.save_blocks(compiled, tmp_path / "blocks", variant="v2")
        module, eager = (blocks.seeded(blocks.Stack, 1) for _ in range(2))

        with patch("huggingface_hub.hf_hub_download", _from(tmp_path / "blocks")):
            aoti.aoti_blocks_load(module, "local/blocks", variant="v2")

        _assert_blocks_answer(module, eager)
        aoti_ref.save_folder(compiled, tmp_path / "folder")
        again = blocks.seeded(blocks.Stack, 1)
        aoti_ref.apply(aoti_ref.load(tmp_path / "folder"), again)
        _assert_blocks_answer(again, eager)

    _apart(run)


def _from(folder: Path) -> Any:
    """Stand in for the download: what is in `folder` is what the repository has."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(
        repo_id: str, filename: str, subfolder: str = "", **_others: Any
    ) -> Any:
        path = folder / subfolder / filename
        if not path.is_file():
            raise LocalEntryNotFoundError(f"{repo_id} has no {subfolder}/{filename}")
        return str(path) if filename.endswith(".json") else BytesIO(path.read_bytes())

    return download
