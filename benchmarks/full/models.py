"""Diffusers' transformers at their published sizes, with random weights, and tiny.

The weights are made where they stay and in the dtype that they keep: FLUX.1-dev never
exists in float32 but for the reference. Nothing is downloaded.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

import fixtures
from conformance.tensors import inside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

DTYPE = torch.bfloat16
_TINY_LAYERS = {"num_layers": 2, "num_single_layers": 2}


class Model(NamedTuple):
    """A transformer and one call of its pipeline."""

    title: str
    kind: str  # the class in diffusers
    config: Mapping[str, Any]  # what differs from that class's defaults
    recipe: str  # of the tiny one
    call: Callable[[Any, Any, Mapping[str, int]], dict[str, Any]]
    sizes: tuple[Mapping[str, int], ...]  # the title's, and two of other aspect
    tiny: tuple[Mapping[str, int], ...]

    def build(self, device: str, *, tiny: bool = False) -> nn.Module:
        """Make the module on `device`; its weights are from one seed."""
        import diffusers

        kind: Any = getattr(diffusers, self.kind)
        torch.manual_seed(0)
        usual = torch.get_default_dtype()
        torch.set_default_dtype(DTYPE)
        try:
            with torch.device(device):
                module: nn.Module = kind.from_config(self.settings(tiny=tiny))
        finally:
            torch.set_default_dtype(usual)
        exact = set(kind._keep_in_fp32_modules or ())  # noqa: SLF001  # as from_pretrained
        for name, parameter in module.named_parameters():
            if exact & set(name.split(".")):
                parameter.data = parameter.data.float()
        return module.eval().requires_grad_(requires_grad=False)

    def settings(self, *, tiny: bool = False) -> dict[str, Any]:
        """Give the configuration."""
        if not tiny:
            return dict(self.config)
        path = fixtures.recipe(self.recipe).folder / "transformer" / "config.json"
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return config | {k: n for k, n in _TINY_LAYERS.items() if k in config}

    def inputs(
        self, module: nn.Module, device: str, *, tiny: bool = False, at: int = 0
    ) -> dict[str, Any]:
        """Draw the arguments of a call; they are the same on every device.

        Args:
            module: What `build` made.
            device: Where they go.
            tiny: Whether it is the tiny one.
            at: Which of the sizes.
        """
        generator = torch.Generator().manual_seed(1)

        def draw(*shape: int) -> torch.Tensor:
            if device == "meta":
                return torch.zeros(shape, dtype=DTYPE, device=device)
            return torch.randn(shape, generator=generator).to(device, DTYPE)

        sizes = self.tiny if tiny else self.sizes
        given = self.call(draw, module.config, sizes[at])
        moved = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in given.items()
        }
        return moved | {"return_dict": False}


def weights_bytes(module: nn.Module) -> int:
    """Count the bytes of parameters and buffers, each once."""
    held: dict[int, torch.Tensor] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        held |= {id(part): part for _, part in inside(tensor)}
    return sum(t.numel() * t.element_size() for t in held.values())


def in_float32(call: Mapping[str, Any]) -> dict[str, Any]:
    """Give the same call in float32."""
    return {
        name: value.float()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in call.items()
    }


def _flux(draw: Any, config: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    height, width = sizes["height"], sizes["width"]
    rows = torch.arange(height, dtype=DTYPE).repeat_interleave(width)
    columns = torch.arange(width, dtype=DTYPE).repeat(height)
    return {
        "hidden_states": draw(1, height * width, config.in_channels),
        "encoder_hidden_states": draw(1, sizes["words"], config.joint_attention_dim),
        "pooled_projections": draw(1, config.pooled_projection_dim),
        "timestep": torch.tensor([0.5], dtype=DTYPE),
        "guidance": torch.tensor([3.5]),
        "img_ids": torch.stack([torch.zeros_like(rows), rows, columns], dim=1),
        "txt_ids": torch.zeros(sizes["words"], 3, dtype=DTYPE),
    }


def _wan(draw: Any, config: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    place = sizes["frames"], sizes["height"], sizes["width"]
    return {
        "hidden_states": draw(1, config.in_channels, *place),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": draw(1, sizes["words"], config.text_dim),
    }


def _ltx(draw: Any, config: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    place = {
        "num_frames": sizes["frames"],
        "height": sizes["height"],
        "width": sizes["width"],
    }
    tokens = sizes["frames"] * sizes["height"] * sizes["width"]
    return {
        "hidden_states": draw(1, tokens, config.in_channels),
        "encoder_hidden_states": draw(1, sizes["words"], config.caption_channels),
        "timestep": torch.tensor([500]),
        "encoder_attention_mask": torch.ones(1, sizes["words"], dtype=torch.bool),
        **place,
        "rope_interpolation_scale": (8 / 25, 32, 32),  # of the pipeline, at 25 fps
    }


def _qwen(draw: Any, config: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    height, width = sizes["height"], sizes["width"]
    return {
        "hidden_states": draw(1, height * width, config.in_channels),
        "encoder_hidden_states": draw(1, sizes["words"], config.joint_attention_dim),
        "timestep": torch.tensor([0.5], dtype=DTYPE),
        "img_shapes": [[(1, height, width)]],
    }


def _plane(*planes: tuple[int, int], **others: int) -> tuple[dict[str, int], ...]:
    return tuple({"height": h, "width": w, **others} for h, w in planes)


MODELS: Mapping[str, Model] = {
    "flux": Model(
        title="FLUX.1-dev, 1024 x 1024, 512 text tokens",
        kind="FluxTransformer2DModel",
        config={"guidance_embeds": True},
        recipe="flux",
        call=_flux,
        sizes=_plane((64, 64), (52, 76), (84, 48), words=512),
        tiny=_plane((4, 4), (3, 6), (6, 4), words=12),
    ),
    "wan": Model(
        title="Wan2.1-T2V-14B, 832 x 480, 81 frames, 512 text tokens",
        kind="WanTransformer3DModel",
        config={},
        recipe="wan",
        call=_wan,
        sizes=_plane((60, 104), (104, 60), (80, 80), words=512, frames=21),
        tiny=_plane((8, 8), (6, 12), (12, 8), words=12, frames=2),
    ),
    "ltx": Model(
        title="LTX-Video 0.9, 704 x 512, 161 frames, 256 text tokens",
        kind="LTXVideoTransformer3DModel",
        config={},
        recipe="ltx",
        call=_ltx,
        sizes=_plane((16, 22), (16, 16), (22, 20), words=256, frames=21),
        tiny=_plane((4, 4), (3, 6), (6, 4), words=12, frames=2),
    ),
    "qwen": Model(
        title="Qwen-Image, 1024 x 1024, 512 text tokens",
        kind="QwenImageTransformer2DModel",
        config={},
        recipe="qwenimage",
        call=_qwen,
        sizes=_plane((64, 64), (52, 76), (84, 48), words=512),
        tiny=_plane((4, 4), (3, 6), (6, 4), words=12),
    ),
}
