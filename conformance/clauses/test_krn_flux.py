"""Chapter KRN: a kernel as the attention of a real block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from conformance.clauses import _kernels
from conformance.clauses._kernels import put
from conformance.clauses._threads import assert_near
from conformance.fresh import fresh_python
from conformance.spec import clause

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.cache import PackageCache


@clause("KRN-12")
def test_a_flux_block_keeps_its_attention_kernel(
    impl: Any, cache: PackageCache, tmp_path: Path, adapter_name: str, seed: int
) -> None:
    package = _kernels.flux_saved(impl, cache, tmp_path, seed)
    put(tmp_path / "kernel")

    found = fresh_python(
        "conformance.clauses._kernels:flux_answer",
        adapter_name,
        str(package),
        str(tmp_path / "call.pt"),
        seed,
    ).value

    assert found["ran"] == 1
    for actual, wanted in zip(found["found"], found["wanted"], strict=True):
        assert_near(torch.tensor(actual), torch.tensor(wanted))
