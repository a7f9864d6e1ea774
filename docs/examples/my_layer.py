"""A layer as many teams have one: capture a call, export, compile, apply."""

import contextlib
import tempfile
import types
from unittest import mock

import torch
from torch._inductor import aoti_compile_and_package, aoti_load_package

__version__ = "0.1"


class CannotExport(Exception):
    """torch.export has refused a module; the message has its reason."""


@contextlib.contextmanager
def capture(module, method="forward"):
    call = types.SimpleNamespace(args=(), kwargs={})

    def record(*args, **kwargs):
        call.args, call.kwargs = args, kwargs
        raise InterruptedError

    with (
        mock.patch.object(module, method, record),
        contextlib.suppress(InterruptedError),
    ):
        yield call


def export(module, args, kwargs, shapes=None):
    try:
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes)
    except Exception as error:
        raise CannotExport(str(error)) from error


def compile(program, options):
    path = f"{tempfile.mkdtemp()}/model.pt2"
    return aoti_compile_and_package(
        program, package_path=path, inductor_configs=options
    )


def apply(path, module):
    module.forward = aoti_load_package(path)
