"""The fixtures of clause tests, for the conftest.py beside them.

They are not in the plugin because pytest has a `cache` of its own, which every
other project in the environment goes on using.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance import device, gpus
from conformance.spec import blocked
from conformance.suite import SUITE

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.cache import PackageCache


@pytest.fixture
def impl(request: pytest.FixtureRequest) -> Adapter:
    """The implementation under test."""
    adapter = request.config.stash[SUITE].adapter
    assert adapter is not None  # noqa: S101  # tests run after the collection
    return adapter


@pytest.fixture
def adapter_name(request: pytest.FixtureRequest) -> str:
    """The name under which another process finds the implementation."""
    return str(request.config.getoption("aoti_impl"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of everything random, from `--aoti-seed`."""
    return int(request.config.getoption("aoti_seed"))


@pytest.fixture
def on_the_cpu() -> None:
    """Keep this test's modules off the GPU, whatever `--aoti-device` says."""
    device.choose("cpu")  # the test has a process of its own


@pytest.fixture
def on_a_gpu() -> None:
    """Leave what only a GPU can decide to `--aoti-device=cuda`."""
    if not device.chosen().startswith("cuda"):
        blocked("it needs a GPU: --aoti-device=cuda")


@pytest.fixture
def on_fp8(on_a_gpu: None) -> None:  # noqa: ARG001  # pytest asks for it by name
    """Leave what takes products of FP8 to GPUs that have them."""
    import torch  # not while tests are collected

    found = torch.cuda.get_device_capability(device.chosen())
    if found < (8, 9):
        blocked("FP8 needs compute capability 8.9, found {}.{}".format(*found))


@pytest.fixture
def gpu_alone() -> None:
    """Let no other worker use this test's GPU, whose memory it measures."""
    # The suite goes by the name: it waits for the GPU before the test has a process.


@pytest.fixture
def two_gpus(on_a_gpu: None) -> None:  # noqa: ARG001
    """Leave what takes two GPUs to machines that have them."""
    gpus.unpin()  # of two, one is another worker's: it is held for this test too
    import torch

    if torch.cuda.device_count() < 2:  # noqa: PLR2004
        blocked("it needs two GPUs, and sees one")


@pytest.fixture
def cache(request: pytest.FixtureRequest, impl: Adapter) -> PackageCache:
    """Packages that `impl` compiled before."""
    from conformance.cache import PackageCache  # it imports torch

    return PackageCache(Path(request.config.getoption("aoti_cache")), impl)
