"""How the conformance suite speaks to this layer; it is all that the suite needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import thin_layer
from conformance.adapter import Dynamic, Info, Refused, Unsupported
from conformance.ranges import dims

if TYPE_CHECKING:
    from torch import nn

info = Info(
    name="thin_layer",
    version="0.1.0",
    url="https://example.org/thin-layer",
    issues="https://example.org/thin-layer/issues",
    packages=("thin_layer",),  # compile anew whenever the layer changes
    cacheable=True,
    bakes_weights=True,
)
capabilities = frozenset({"dynamic", "package"})

save, load, apply = thin_layer.save, thin_layer.load, thin_layer.apply


def capture(_module: nn.Module, _method: str = "forward") -> NoReturn:
    raise Unsupported("thin_layer has no verb that captures a call")


def export(module: nn.Module, call: Any, *, dynamic: Dynamic | None = None) -> Any:
    sizes = dims(dynamic) or {}
    try:
        return thin_layer.export(module, call.args, call.kwargs, sizes=sizes)
    except Exception as error:
        raise Refused(str(error)) from error


def compile(exported: Any, *, options: dict[str, Any] | None = None) -> Any:
    try:
        return thin_layer.compile(exported, options)
    except Exception as error:
        raise Refused(str(error)) from error
