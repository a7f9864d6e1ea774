"""Chapter KRN: names beside the trusted one, and beside the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from conformance.clauses._hubs import asks_for_no_file
from conformance.models import kernels
from conformance.spec import clause
from conformance.workbench import refuses

if TYPE_CHECKING:
    from conformance.adapter_hub import Kernels
    from conformance.loopback import Hub


def _assert_refused(impl: Kernels, hub: Hub, trust: Any, revision: str = "{}") -> None:
    __tracebackhide__ = True
    repository = hub.make(kernels.REPOSITORY, "kernels")
    commit = repository.commit(kernels.files())
    name = revision.format(commit)
    repository.branches[name] = commit

    with asks_for_no_file(hub), refuses():
        impl.use_kernel(kernels.REPOSITORY, revision=name, trust=trust)

    assert not hasattr(getattr(torch.ops, kernels.NAMESPACE), "attend")


@clause("KRN-09")
@pytest.mark.parametrize(
    "trust",
    [
        *("tiny-kernels-2", "my-tiny-kernels", "Tiny-Kernels", "tiny", "*"),
        *(f"{kernels.REPOSITORY}-2", f"my-{kernels.REPOSITORY}", ""),
    ],
)
@pytest.mark.parametrize("alone", [False, True], ids=["in a list", "alone"])
def test_trust_in_kernels_is_for_whole_names(
    impl: Kernels, hub: Hub, trust: str, *, alone: bool
) -> None:
    _assert_refused(impl, hub, trust if alone else [trust])


@clause("KRN-09")
@pytest.mark.parametrize("revision", ["{}-old", "{}0", "v{}", "{:.12}", "{}^"])
def test_a_revision_that_holds_a_hash_pins_no_kernel(
    impl: Kernels, hub: Hub, revision: str
) -> None:
    _assert_refused(impl, hub, ["tiny-kernels"], revision)
