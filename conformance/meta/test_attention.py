"""What the reference's backends of attention promise beside chapter KRN."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import aoti_ref
from aoti_ref import _attention, _card, _fused, _inductor
from conformance.isolated import run_forked
from conformance.models import attention, blocks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RANGES = {"x": {1: (2, 40)}}
WHOLE = "aten.scaled_dot_product_attention.default"
FLASH = "aten._scaled_dot_product_flash_attention_for_cpu.default"


class Branching(attention.Attending):
    """Attends in one of two branches, as the sum of its argument has it."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        other = super().attend

        def negated(*given: torch.Tensor) -> torch.Tensor:
            return -other(*given)

        def attending(*given: torch.Tensor) -> torch.Tensor:
            return other(*given) + 0

        found: torch.Tensor = torch.cond(q.sum() > 0, attending, negated, (q, k, v))
        return found


class Tower(nn.Module):
    """Blocks of which some attend."""

    _repeated_blocks = ("Attending", "Unattending")

    def __init__(self, *kinds: type[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(kind() for kind in kinds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def given() -> aoti_ref.Call:
    """Draw a call, as the reference takes it."""
    return aoti_ref.Call(attention.call().args)


def answer(function: Callable[[], Any]) -> Any:
    """Run a function in a child: this process computes nothing."""
    ending = run_forked(function, deadline_s=120)
    assert ending.kind == "answer", ending.text
    return ending.answer


def operators(program: Any) -> set[str]:
    """Name the operators of attention in a program, its branches included."""
    parts = [m for m in program.graph_module.modules() if hasattr(m, "graph")]
    names = {str(node.target) for part in parts for node in part.graph.nodes}
    return {name for name in names if "scaled_dot_product" in name}


@pytest.mark.parametrize(
    ("backend", "wanted"), [(None, {WHOLE}), ("flash", {FLASH}), ("math", set())]
)
def test_a_choice_is_in_the_nodes_of_the_program(
    backend: str | None, wanted: set[str]
) -> None:
    def export() -> Any:
        module = attention.seeded(attention.Attending).float()
        (x,) = attention.call().args
        call = aoti_ref.Call((x.float(),))
        program = aoti_ref.export(module, call, dynamic=RANGES, attention=backend)
        torch.testing.assert_close(program.module()(*call.args), module(*call.args))
        return operators(program), _attention.backends(program)

    assert answer(export) == (wanted, [backend or "default"])


def test_a_branch_that_attends_keeps_the_choice() -> None:
    def export() -> Any:
        module, call = attention.seeded(Branching), given()
        return operators(aoti_ref.export(module, call, attention="flash"))

    assert answer(export) == {FLASH}


def test_a_selection_that_contains_the_choice_does_not_contradict_it() -> None:
    def export() -> Any:
        module, call = attention.seeded(attention.Attending), given()
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            program = aoti_ref.export(module, call, attention="flash")
        return operators(program)

    assert answer(export) == {FLASH}


def test_exports_of_two_threads_leave_torch_as_it_was() -> None:
    def export() -> Any:
        create, inside = torch.fx.Graph.create_node, Barrier(2)
        met: list[int] = []

        class Meeting(attention.Unattending):
            """Waits while it is exported for another that is: there is none."""

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                with suppress(BrokenBarrierError):
                    met.append(inside.wait(0.5))
                return super().forward(x)

        modules = [attention.seeded(Meeting) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda m: aoti_ref.export(m, given()), modules))
        return len(made), met, torch.fx.Graph.create_node is create

    assert answer(export) == (2, [], True)


def test_a_backend_for_some_sizes_only_is_refused() -> None:
    traced = _inductor.traced

    def narrow(*asked: Any) -> Any:
        return traced(*asked)[0], ["(s27 % 8) == 0"]

    def export() -> str:
        module, call = attention.seeded(attention.Attending), given()
        with (
            patch.object(_inductor, "traced", narrow),
            pytest.raises(aoti_ref.UnusableAttention) as refusal,
        ):
            aoti_ref.export(module, call, dynamic=RANGES, attention="flash")
        return str(refusal.value)

    words = answer(export)
    assert "flash" in words
    assert "only where (s27 % 8) == 0" in words


def test_a_backend_for_blocks_of_which_none_attends_is_refused() -> None:
    def compile_blocks() -> str:
        module = attention.seeded(lambda: Tower(attention.Unattending))
        call = attention.call()
        with aoti_ref.capture_regions(module) as calls:
            module(*call.args)
        with pytest.raises(aoti_ref.UnusableAttention) as refusal:
            aoti_ref.compile_regions(module, calls, attention="math", progress=False)
        return str(refusal.value)

    assert "Tower cannot attend with 'math'" in answer(compile_blocks)


def test_an_unknown_backend_is_the_callers_mistake_for_blocks_too() -> None:
    def compile_blocks() -> str:
        module = attention.seeded(lambda: Tower(attention.Attending))
        with aoti_ref.capture_regions(module) as calls:
            module(*attention.call().args)
        with pytest.raises(ValueError, match="attention must be one of") as refusal:
            aoti_ref.compile_regions(module, calls, attention="fast", progress=False)
        return str(refusal.value)

    assert "'fast'" in answer(compile_blocks)


@pytest.mark.parametrize(
    ("data", "named", "words"),
    [
        (b"aoti_torch_cpu__scaled_dot_product_flash_attention_for_cpu", ["flash"], ""),
        (b"aoti_torch_cuda__scaled_dot_product_cudnn_attention", ["cudnn"], ""),
        (b"nothing", ["math"], ""),
        (b"aoti_torch_cuda__scaled_dot_product_flash_attention", ["default"], ""),
        (b"nothing", ["flash"], "attend with flash, and calls none"),
        (
            b"aoti_torch_cuda__scaled_dot_product_flash_attention",
            ["math"],
            "attend with math, and calls flash",
        ),
    ],
)
def test_a_library_is_held_to_the_choice(
    tmp_path: Path, data: bytes, named: list[str], words: str
) -> None:
    library = tmp_path / "graph.wrapper.so"
    library.write_bytes(data)

    found = _fused.amiss([library], named)

    assert words in found
    assert bool(found) == bool(words)


def test_a_card_says_what_a_package_attends_with() -> None:
    about = dict.fromkeys(("model", "model_revision", "capability"), "")
    about |= {"module": "Flux", "torch": "2.13", "device": "cuda", "machine": "x86_64"}
    about |= {"sha256": "0"}
    lists: dict[str, Any] = {"libraries": {}, "kernels": [], "contracts": {}}
    lists |= {"figures": {}, "attention": ["cudnn"]}

    assert "| attention | cudnn |" in _card.card("a/b", {"one": about | lists})


def test_blocks_in_variants_take_the_choice() -> None:
    def export() -> Any:
        module = blocks.seeded(blocks.Stack)
        with pytest.raises(aoti_ref.FailedVariants) as refusal:
            aoti_ref.compile_variants(
                module,
                [aoti_ref.Call(*blocks.call())],
                attention="cudnn",
                progress=False,
            )
        return str(refusal.value)

    assert "'cudnn'" in answer(export)
