"""What the reference says of operators that are not what their fakes promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import aoti_ref
from conformance import isolated


class Calling(torch.nn.Module):
    """Calls an operator by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: torch.Tensor) -> Any:
        return getattr(torch.ops.conformance_liars, self.name)(x)


def higher(x: torch.Tensor) -> torch.Tensor:
    return x.new_ones(2, *x.shape)


def longer(x: torch.Tensor) -> list[torch.Tensor]:
    return [x + 1, x + 2, x + 3]


def lower(x: torch.Tensor) -> torch.Tensor:
    return x.sum()


@pytest.mark.parametrize(
    ("real", "fake", "words"),
    [
        (higher, torch.empty_like, r"returns float32\[2, 3, 4\]"),
        (longer, lambda x: [torch.empty_like(x)] * 2, "returns 3 values"),
        (lower, torch.empty_like, r"returns float32\[\]"),
    ],
    ids=["rank", "list", "scalar"],
)
def test_another_form_of_result_is_named(real: Any, fake: Any, words: str) -> None:
    def export() -> None:
        name = f"conformance_liars::{real.__name__}"
        made = torch.library.custom_op(name, real, mutates_args=())
        made.register_fake(fake)
        call = aoti_ref.Call((torch.ones(3, 4),), {})
        with pytest.raises(aoti_ref.NotExportable, match=words):
            aoti_ref.export(Calling(real.__name__).eval(), call)

    ending = isolated.run_forked(export, deadline_s=60)

    assert ending.kind == "answer", ending.text
