"""The device that the clauses' modules and inputs live on: `--aoti-device`."""

from __future__ import annotations

import os

_VARIABLE = "AOTI_DEVICE"


def choose(name: str) -> None:
    """Set the device for this process and its children: `cpu`, `cuda`, `cuda:1`."""
    os.environ[_VARIABLE] = name


def chosen() -> str:
    """The device that was chosen; `cpu` if none was."""
    return os.environ.get(_VARIABLE, "cpu")
