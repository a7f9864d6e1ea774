"""The adapter for my_layer."""

import my_layer

from conformance.adapter import Info, Refused
from conformance.ranges import dynamic_shapes

info = Info(
    name="my_layer",
    version=my_layer.__version__,
    url="https://example.org/my_layer",
    issues="https://example.org/my_layer/issues",
    packages=("my_layer",),
)
capabilities = frozenset({"dynamic"})  # what you claim; the rest is `unsupported`


def capture(module, method="forward"):
    return my_layer.capture(module, method)


def export(module, call, *, dynamic=None):
    shapes = dynamic_shapes(module, call, dynamic)
    try:
        return my_layer.export(module, call.args, dict(call.kwargs), shapes)
    except my_layer.CannotExport as error:
        raise Refused(str(error)) from error


def compile(exported, *, options=None):
    return my_layer.compile(exported, options)


def apply(compiled, module):
    my_layer.apply(compiled, module)
