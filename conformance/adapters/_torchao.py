"""The configurations of torchao's that the schemes of the suite stand for."""

from __future__ import annotations

import importlib
from typing import Any

from conformance.adapter import Unsupported


def torchao_config(scheme: str) -> Any:
    """Give the configuration for a scheme.

    Raises:
        Unsupported: torchao is missing.
    """
    try:
        api = importlib.import_module("torchao.quantization")
    except ImportError as error:
        message = "torchao is not installed (pip install 'aoti-conformance[fp8]')"
        raise Unsupported(message) from error
    if scheme == "weight_only":
        return api.Float8WeightOnlyConfig()
    by = {"per_row": api.PerRow, "per_tensor": api.PerTensor}[scheme]
    return api.Float8DynamicActivationFloat8WeightConfig(granularity=by())
