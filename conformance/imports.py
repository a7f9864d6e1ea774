"""Imports that would start CUDA, or warn, in the process whose children are to run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import warnings
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Let libraries warn as they are imported, where pytest makes errors of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def keep_cuda_out() -> None:
    """Import what would start CUDA by being imported, without a GPU in its sight.

    torchao, which diffusers imports where it is installed, asks at import what the GPU
    can do, for kernels of newer ones. torch starts CUDA for an answer, and no child of
    this process could use it then.
    """
    if importlib.util.find_spec("torchao") is None:
        return
    import torch

    def no() -> bool:
        return False

    told = logging.root.manager.disable
    logging.disable(logging.WARNING)  # which of its libraries fit this torch
    # Triton's answer is kept for good: it must not be asked while there is no GPU.
    try:
        with (
            warnings.catch_warnings(),
            patch("torch.utils._triton.has_triton", no),
            patch.object(torch.cuda, "is_available", no),
        ):
            warnings.simplefilter("ignore")  # pytest may make errors of them
            importlib.import_module("torchao.quantization")
            importlib.import_module("torchao.prototype.mx_formats")
    finally:
        logging.disable(told)
