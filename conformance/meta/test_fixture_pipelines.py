"""The tiny checkpoints run: no network, no idle weight, the same picture every time."""

from __future__ import annotations

import socket
from collections import defaultdict
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import torch
from torch.utils._pytree import tree_map

import fixtures
from fixtures import _weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor, nn

# torch's arrays before numpy 2's protocol, met by diffusers' Euler scheduler.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

FAMILIES = fixtures.families()
LEAST_BLOCKS = 3
LEAST_COMPONENTS = 3  # with weights: a denoiser, a VAE and a text encoder
LEAST_CHANGE = 1e-3  # relative, of a denoiser's output when one block's weights change
FLOAT32_NOISE = 1e-5  # relative, between a denoiser in float32 and in float64
# What the suite calls a repeated block; diffusers declares none for SD3.
BLOCKS = {
    "flux": {"FluxTransformerBlock", "FluxSingleTransformerBlock"},
    "ltx": {"LTXVideoTransformerBlock"},
    "qwenimage": {"QwenImageTransformerBlock"},
    "sd3": {"JointTransformerBlock"},
    "sdxl": {"BasicTransformerBlock"},
    "wan": {"WanTransformerBlock"},
}


@pytest.fixture(autouse=True)
def _one_thread_and_no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a checkpoint reached for the network")

    # Read when the Hub's client is imported, which an earlier test may have done.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def load(root: Path) -> Callable[[str], Any]:
    @cache
    def load(family: str) -> Any:  # diffusers' pipelines are untyped
        from diffusers import DiffusionPipeline  # seconds

        loader: Any = DiffusionPipeline  # untyped
        pipeline = loader.from_pretrained(fixtures.cached(family, root))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return load


def run(pipeline: Any, family: str, seed: int) -> Tensor:
    recipe = fixtures.recipe(family)
    generator = torch.Generator().manual_seed(seed)
    output: Tensor = getattr(
        pipeline(**recipe.call, generator=generator), recipe.output
    )
    return output


def denoiser_of(pipeline: Any, family: str) -> nn.Module:
    denoiser: nn.Module = getattr(pipeline, fixtures.recipe(family).denoiser)
    return denoiser


def first_call(pipeline: Any, family: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = denoiser_of(pipeline, family).register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args, dict(kwargs))), with_kwargs=True
    )
    run(pipeline, family, seed=0)
    hook.remove()
    return calls[0]


def blocks_of(pipeline: Any, family: str) -> dict[object, list[nn.Module]]:
    """Group a denoiser's repeated blocks by class and by their weights' shapes."""
    groups: dict[object, list[nn.Module]] = defaultdict(list)
    for module in denoiser_of(pipeline, family).modules():
        if (name := type(module).__name__) in BLOCKS[family]:
            shapes = tuple((n, tuple(p.shape)) for n, p in module.named_parameters())
            groups[name, shapes].append(module)
    return groups


def relative_change(before: Tensor, after: Tensor) -> float:
    return float((after.double() - before.double()).norm() / before.double().norm())


@pytest.mark.parametrize("family", FAMILIES)
def test_pipeline_draws_the_same_picture_twice(
    load: Callable[[str], Any], family: str
) -> None:
    pipeline = load(family)

    first, again, other = (run(pipeline, family, seed) for seed in (0, 0, 1))

    assert type(pipeline).__name__ == fixtures.recipe(family).pipeline
    assert first.isfinite().all()
    assert first.std() > 1 / 256, "a picture of one colour"
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_that_loads_was_drawn_for_its_name(
    load: Callable[[str], Any], family: str
) -> None:
    components = load(family).components.items()
    modules = {n: c for n, c in components if isinstance(c, torch.nn.Module)}
    seed = fixtures.recipe(family).seed

    astray = [
        f"{part}.{name}"
        for part, module in modules.items()
        for name, weight in module.named_parameters()
        if not torch.equal(
            weight, _weights.draw(name, tuple(weight.shape), f"{seed}/{part}").float()
        )
    ]

    assert len(modules) >= LEAST_COMPONENTS
    assert astray == []


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_are_repeated_and_share_no_weight(
    load: Callable[[str], Any], family: str
) -> None:
    groups = blocks_of(load(family), family)
    shared = [
        name
        for blocks in groups.values()
        for one, two in combinations(blocks, 2)
        for name, weight in one.named_parameters()
        if torch.equal(weight, two.get_parameter(name))
    ]

    assert {type(blocks[0]).__name__ for blocks in groups.values()} == BLOCKS[family]
    # SD3's last block, which drops the text, is one of a kind in the real model too.
    assert sum(len(blocks) < LEAST_BLOCKS for blocks in groups.values()) == (
        family == "sd3"
    )
    assert (len(groups) > len(BLOCKS[family])) == (family in {"sd3", "sdxl"})
    assert shared == []


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_denoiser_answers_to_every_block(
    load: Callable[[str], Any], family: str
) -> None:
    pipeline = load(family)
    denoiser = denoiser_of(pipeline, family)
    args, kwargs = first_call(pipeline, family)
    before = denoiser(*args, **kwargs)[0]

    changes = []
    for block in (b for blocks in blocks_of(pipeline, family).values() for b in blocks):
        kept = {name: weight.clone() for name, weight in block.state_dict().items()}
        for weight in block.parameters():
            weight.mul_(1.1)
        changes.append(relative_change(before, denoiser(*args, **kwargs)[0]))
        block.load_state_dict(kept)

    assert 0.05 < before.std() < 20  # neither vanishing nor exploding
    assert min(changes) > LEAST_CHANGE


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_denoiser_agrees_with_itself_in_float64(
    load: Callable[[str], Any], family: str
) -> None:
    pipeline = load(family)
    denoiser = denoiser_of(pipeline, family)
    args, kwargs = first_call(pipeline, family)
    single = denoiser(*args, **kwargs)[0]

    def widen(leaf: object) -> object:
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            return leaf.double()
        return leaf

    try:
        args, kwargs = tree_map(widen, (args, kwargs))
        double = denoiser.double()(*args, **kwargs)[0]
    finally:
        denoiser.float()

    assert double.dtype == torch.float64
    assert 0 < relative_change(double, single) < FLOAT32_NOISE


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizers_know_every_ascii_text(
    load: Callable[[str], Any], family: str
) -> None:
    components = load(family).components
    ascii_text = "".join(map(chr, range(0x21, 0x7F)))
    names = [name for name in components if name.startswith("tokenizer")]

    for name in names:
        tokenizer = components[name]
        encoder = components[name.replace("tokenizer", "text_encoder")]
        config = getattr(encoder.config, "text_config", encoder.config)
        fox, boat, all_ids = (
            tokenizer(text, add_special_tokens=False).input_ids
            for text in ("a red fox in the snow", "a wooden boat", ascii_text)
        )
        assert fox[0] == boat[0]
        assert not set(fox[1:]) & set(boat[1:])
        assert tokenizer.unk_token_id not in all_ids
        assert max(tokenizer.get_vocab().values()) == config.vocab_size - 1
    assert names


def test_qwen_template_is_cut_before_the_prompt(load: Callable[[str], Any]) -> None:
    pipeline = load("qwenimage")
    head, _ = pipeline.prompt_template_encode.split("{}")

    tokens = pipeline.tokenizer(head).input_ids

    assert len(tokens) == pipeline.prompt_template_encode_start_idx
