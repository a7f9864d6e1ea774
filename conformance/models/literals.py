"""A stack with numbers in its code, which a compiler puts beside it or into it."""

from __future__ import annotations

import torch

from conformance.models.blocks import WIDTH, Stack


class Toned(Stack):
    """A Stack whose answer is shifted by small numbers: none of their bits is idle."""

    def forward(
        self, hidden_states: torch.Tensor, scale: float = 1.0
    ) -> tuple[torch.Tensor]:
        (hidden_states,) = super().forward(hidden_states, scale)
        tone = torch.tensor([37 + 5 * n for n in range(WIDTH)], dtype=torch.uint8)
        return (hidden_states + tone.to(hidden_states.device),)
