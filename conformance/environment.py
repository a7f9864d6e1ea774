"""What the header of a results file says of the machine, without importing torch."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import pytest

from conformance import device, spec

if TYPE_CHECKING:
    from conformance.adapter import Adapter

DISTRIBUTIONS = (
    "aoti-conformance",
    "torch",
    "diffusers",
    "transformers",
    "torchao",
    "spaces",
)


def header(adapter: Adapter, config: pytest.Config) -> dict[str, Any]:
    """Say who is tested, where, by which catalogue and with which seed."""
    option = config.getoption
    return {
        "implementation": {
            "name": adapter.info.name,
            "version": adapter.info.version,
            "url": adapter.info.url,
            "issues": adapter.info.issues,
            "adapter": option("aoti_impl"),
            "capabilities": sorted(adapter.capabilities),
        },
        "environment": describe(),
        "catalogue": spec.digest(),
        "seed": option("aoti_seed"),
        "shard": {
            "group": option("group", None) or 1,
            "splits": option("splits", None) or 1,
        },
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def id_of(item: pytest.Item) -> str:
    """Name `item` as `pytest --pyargs` takes it in any folder."""
    module = item.getparent(pytest.Module)
    name = module.obj.__name__ if module else ""
    return f"{name}::{item.nodeid.partition('::')[2]}"


def describe() -> dict[str, Any]:
    """Versions, platform, CPUs and GPUs of this machine."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": _cpus(),
        "gpus": _gpus(),
        "device": device.chosen(),
        "versions": {
            name: found for name in DISTRIBUTIONS if (found := _version(name))
        },
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpus() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _gpus() -> list[str]:
    """Names of the GPUs, from nvidia-smi: asking torch could make a context here."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        asked = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [name.strip() for name in asked.stdout.splitlines() if name.strip()]
