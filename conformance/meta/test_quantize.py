"""What the reference's `quantize` promises beside chapter QNT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import torch

import aoti_ref
from conformance.isolated import run_forked
from conformance.models import quantised

if TYPE_CHECKING:
    from collections.abc import Callable


def answer(function: Callable[[], Any]) -> Any:
    """Run a function in a child: this process computes nothing."""
    ending = run_forked(function, deadline_s=120)
    assert ending.kind == "answer", ending.text
    return ending.answer


@pytest.mark.parametrize(
    ("config", "kind", "words"),
    [
        ("per_column", ValueError, "'per_row', 'per_tensor', 'weight_only'"),
        (8, TypeError, "found int"),
    ],
)
def test_a_config_that_is_none_is_refused(
    config: Any, kind: type[Exception], words: str
) -> None:
    def quantise() -> str:
        with pytest.raises(kind) as refusal:
            aoti_ref.quantize(quantised.plain(quantised.Mlp), config)
        return str(refusal.value)

    assert words in answer(quantise)


def test_what_is_left_out_has_a_reason() -> None:
    def quantise() -> Any:
        module = quantised.plain(quantised.Mlp)
        return aoti_ref.quantize(module, "weight_only", skip=["do*"], smallest=100)

    found = answer(quantise)

    assert found.layers == ("up",)
    assert found.skipped.keys() == {"down", "narrow", "widen"}
    assert "'do*'" in found.skipped["down"]
    assert found.bytes_after < 0.6 * found.bytes_before


def test_small_layers_are_left_out() -> None:
    def quantise() -> str:
        with pytest.raises(aoti_ref.NotQuantizable) as refusal:
            aoti_ref.quantize(quantised.plain(quantised.Mlp), "weight_only")
        return str(refusal.value)

    assert "8192 elements are fewer than 1048576" in answer(quantise)


def test_a_failure_half_way_is_undone() -> None:
    def quantise() -> bool:
        module = quantised.plain(quantised.Mlp)
        before = {n: (id(p), p.clone()) for n, p in module.named_parameters()}
        own = [set(vars(part)) for part in module.modules()]
        api = quantised.torchao()
        whole = api.quantize_

        def fail(*args: Any, **kwargs: Any) -> None:
            whole(*args, **kwargs)
            raise RuntimeError

        with patch.object(api, "quantize_", fail), pytest.raises(RuntimeError):
            aoti_ref.quantize(module, "weight_only", smallest=0)
        return own == [set(vars(part)) for part in module.modules()] and all(
            id(p) == before[n][0] and torch.equal(p, before[n][1])
            for n, p in module.named_parameters()
        )

    assert answer(quantise)
