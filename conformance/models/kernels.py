"""A kernel repository as the library `kernels` lays it out, and modules that call it.

The operators have a digest in their names, as those of real builds do. Their code
notes every call on the CPU, so that a test can tell that they ran.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from conformance.adapter import Call
from conformance.models.blocks import HEADS, WIDTH, hidden_states

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORY = "tiny-kernels/attention"
NAMESPACE = "tiny_attention_51c0ffee"
OPERATOR = f"{NAMESPACE}::attend"
BUILD = "build/torch-universal"  # for a GPU, too

_CODE = """
# A line that nobody else has: 3f0a8c7d15.
import torch
from torch.nn import functional

ran = []


@torch.library.custom_op("{namespace}::attend", mutates_args=())
def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    ran.append(tuple(query.shape))
    mixed = functional.scaled_dot_product_attention(query, key, value)
    return (mixed * {scale}).contiguous()


@attend.register_fake
def _(query, key, value):
    return query.new_empty(query.shape)
"""
MARK = b"3f0a8c7d15"


def files(scale: float = 1.0, build: str = BUILD) -> dict[str, bytes]:
    """Give the files of the repository; another scale is another revision."""
    about = {
        "name": "tiny-attention",
        "id": NAMESPACE,
        "version": 1,
        "license": "Apache-2.0",
        "python-depends": [],
        "backend": {"type": "cpu"},
    }
    code = _CODE.format(namespace=NAMESPACE, scale=scale)
    return {
        f"{build}/__init__.py": code.encode(),
        f"{build}/metadata.json": json.dumps(about).encode(),
    }


def write(folder: Path, scale: float = 1.0, build: str = BUILD) -> Path:
    """Write the repository into `folder`."""
    for name, data in files(scale, build).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def calls() -> int:
    """Count the calls of the kernel in this process."""
    kernel: Any = sys.modules.get(NAMESPACE)
    return len(kernel.ran) if kernel else 0


class Attending(nn.Module):
    """Attention by the kernel, between two layers.

    `forward` takes float[batch, tokens, 16] and returns the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = hidden_states.shape
        qkv = self.qkv(hidden_states).view(batch, tokens, 3, HEADS, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()
        mixed = getattr(torch.ops, NAMESPACE).attend(query, key, value)
        mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
        result: torch.Tensor = hidden_states + self.out(mixed)
        return result


class AttendingFromHub(Attending):
    """The same, for a package that records a commit on the Hub."""


def call(seed: int = 0) -> Call:
    """Draw a call of an Attending."""
    return Call((hidden_states(seed=seed),), {})


LOOSE = "conformance_loose::halve"


def register_loose() -> None:
    """Register an operator that no kernel brings."""

    @torch.library.custom_op(LOOSE, mutates_args=())
    def halve(x: torch.Tensor) -> torch.Tensor:
        return x / 2

    @halve.register_fake
    def _(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x)


class Halving(nn.Module):
    """Calls the operator of no kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        halved: torch.Tensor = torch.ops.conformance_loose.halve(
            self.proj(hidden_states)
        )
        return halved


class Processor:
    """FLUX's attention, by the kernel: for a block with two streams."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,  # noqa: ARG002  # FLUX has none
        image_rotary_emb: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from diffusers.models.embeddings import apply_rotary_emb

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.view(*x.shape[:2], attn.heads, -1)

        text, image = encoder_hidden_states, hidden_states
        query = [
            attn.norm_added_q(heads(attn.add_q_proj(text))),
            attn.norm_q(heads(attn.to_q(image))),
        ]
        key = [
            attn.norm_added_k(heads(attn.add_k_proj(text))),
            attn.norm_k(heads(attn.to_k(image))),
        ]
        value = [heads(attn.add_v_proj(text)), heads(attn.to_v(image))]
        turned = [
            apply_rotary_emb(torch.cat(x, 1), image_rotary_emb, sequence_dim=1)
            for x in (query, key)
        ]
        mixed = getattr(torch.ops, NAMESPACE).attend(
            *(x.transpose(1, 2) for x in (*turned, torch.cat(value, 1)))
        )
        mixed = mixed.transpose(1, 2).flatten(2)
        tokens = text.shape[1]
        out: torch.Tensor = attn.to_out[1](attn.to_out[0](mixed[:, tokens:]))
        return out, attn.to_add_out(mixed[:, :tokens])
