"""What the package of blocks says of their group, and how its members are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from torch import nn

import aoti_ref
from aoti_ref import _private, _program, _regional
from conformance.isolated import run_forked
from conformance.models import blocks

if TYPE_CHECKING:
    from pathlib import Path


class Wide(nn.Module):
    """Two blocks of one class and two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 8)])

    def forward(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


def groups(seed: int) -> list[Any]:
    """Give what the graphs of a module's blocks would have in their manifests."""
    found = []

    def described(program: Any, **_others: Any) -> Any:
        found.append(_program.describe_program(program)[1].group)
        raise aoti_ref.NotCompilable("a block", "nothing is compiled here")

    module = blocks.seeded(Wide, seed)
    with aoti_ref.capture_regions(module) as calls:
        module(blocks.normal(2, 4, seed=1))
    with (
        patch.object(_regional, "compile_program", described),
        pytest.raises(aoti_ref.FailedBlocks),
    ):
        _regional.compile_regions(module, calls, progress=False, on_failure="eager")
    return found


def test_a_group_is_known_by_its_class_and_make() -> None:
    ending = run_forked(lambda: [groups(0), groups(1)], deadline_s=60)
    assert ending.kind == "answer", ending.text
    first, again = ending.answer

    assert [group["class"] for group in first] == ["torch.nn.modules.linear.Linear"] * 2
    assert first[0]["signature"] != first[1]["signature"]
    assert again == first  # whatever the weights are


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (
            ["a.wrapper.so", "b.kernel_metadata.json", "a.wrapper_metadata.json"],
            ["a.wrapper.so", "a.kernel_metadata.json", "a.wrapper_metadata.json"],
        ),
        (["a.wrapper.so", "c.cubin"], ["a.wrapper.so", "c.cubin"]),
        (
            ["a.wrapper.so", "b.kernel_metadata.json", "c.kernel_metadata.json"],
            ["a.wrapper.so", "b.kernel_metadata.json", "c.kernel_metadata.json"],
        ),
    ],
    ids=["one", "none", "several"],
)
def test_what_is_said_of_kernels_is_named_after_the_library(
    tmp_path: Path, given: list[str], wanted: list[str]
) -> None:
    for name in given:
        (tmp_path / name).write_text(name)

    found = _private.renamed([tmp_path / name for name in given])

    assert [path.name for path in found] == wanted
    assert [path.read_text() for path in found] == given
