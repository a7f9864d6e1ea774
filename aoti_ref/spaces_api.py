"""The core verbs under the names that Hugging Face's `spaces` gives them.

A Space that says `import spaces` for ahead-of-time compilation can say
`import aoti_ref.spaces_api as spaces` and change nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aoti_ref._apply import apply
from aoti_ref._capture import capture
from aoti_ref._compile import CompiledModel, compile

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import nn
    from torch.export import ExportedProgram

    from aoti_ref._call import Call


def aoti_capture(
    module: nn.Module, call_method: str = "forward"
) -> AbstractContextManager[Call]:
    """Record the first call of the block: `aoti_ref.capture`."""
    return capture(module, call_method)


def aoti_compile(
    exported_program: ExportedProgram, inductor_configs: dict[str, Any] | None = None
) -> CompiledModel:
    """Compile without weights: `aoti_ref.compile`."""
    return compile(exported_program, options=inductor_configs)


def aoti_apply(
    compiled: CompiledModel, module: nn.Module, call_method: str = "forward"
) -> None:
    """Run `compiled` in place of the method: `aoti_ref.apply`.

    The weights stay on the module, which they leave under `spaces`.
    """
    apply(compiled, module, method=call_method)
