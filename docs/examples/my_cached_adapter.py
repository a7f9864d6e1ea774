"""my_adapter, whose compiled models are kept from test to test."""

import dataclasses
import shutil

import my_adapter
from my_adapter import apply, capabilities, capture, compile, export  # noqa: F401

info = dataclasses.replace(my_adapter.info, cacheable=True, bakes_weights=True)


def freeze(compiled, folder):
    shutil.copy(compiled, folder / "model.pt2")


def thaw(folder):
    return str(folder / "model.pt2")
