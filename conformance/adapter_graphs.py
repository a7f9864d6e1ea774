"""What an adapter offers of graphs: how they attend, quantised, blocks, variants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from conformance.adapter import Adapter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from torch import nn

    from conformance.adapter import Dynamic


class ChoosesAttention(Adapter, Protocol):
    """Capability `attention`.

    The backends are torch's own, of `scaled_dot_product_attention`: "math", "flash",
    "efficient" and "cudnn".
    """

    def export_attending(
        self,
        module: nn.Module,
        call: Any,
        backend: str,
        *,
        dynamic: Dynamic | None = None,
    ) -> Any:
        """Export as `export` does, with `backend` for every call of attention."""

    def attention(self, compiled: Any) -> Collection[str]:
        """Name the backends that a compiled model, or a loaded one, says it calls."""

    def describe(self, compiled: Any) -> str:
        """Say what a compiled model is, as its users are shown it."""


class Quantises(Adapter, Protocol):
    """Capability `fp8`.

    Modules whose weights torchao has quantised are exported, compiled and applied as
    all others, whoever has called it.
    """

    def quantize(self, module: nn.Module, scheme: str) -> Mapping[str, str]:
        """Quantise the linear layers of `module`, in place.

        Args:
            module: In bfloat16. Layers of every size are meant, small ones too.
            scheme: `per_row` or `per_tensor`, for FP8 products with activations
                that are quantised as they come; or `weight_only`.

        Returns:
            The linear layers that were left as they were, by name, and why.
        """


class Regional(Adapter, Protocol):
    """Capability `regional`.

    `apply`, `restore`, `save` and `load` take what `compile_regions` returns as they
    take what `compile` returns.
    """

    def compile_regions(
        self,
        module: nn.Module,
        run: Callable[[], object],
        *,
        blocks: Sequence[str] | None = None,
        dynamic: Dynamic | None = None,
        leave_eager: bool = False,
        progress: bool | Callable[[int, int, str], object] = False,
        jobs: int = 1,
    ) -> Any:
        """Compile the repeated blocks of `module` as `run` calls them.

        Args:
            module: Its blocks are those of the classes in `_repeated_blocks`.
            run: Calls `module` once, or a pipeline around it.
            blocks: Names of classes, or of blocks or lists of them, instead.
            dynamic: Ranges by names of the blocks' arguments; a block without an
                argument of a name does without.
            leave_eager: Leave eager what cannot be compiled, instead of refusing.
            progress: A bar; or it is called with graphs done, of all, and a name.
            jobs: How many graphs to compile at once.
        """

    def eager_blocks(self, compiled: Any) -> Collection[str]:
        """Name the blocks that `compile_regions` has left eager."""


class TellsPeaks(Adapter, Protocol):
    """Capability `peak`."""

    def peaks(self, compiled: Any) -> Mapping[str, int]:
        """Tell the bytes that compiling took at most, by device ("cpu", "cuda")."""


class Variants(Adapter, Protocol):
    """Capability `variants`; every other verb takes what these return."""

    def combine(self, models: Sequence[Any]) -> Any:
        """Make one of compiled models: the first that takes a call answers it."""

    def compile_variants(
        self, module: nn.Module, calls: Sequence[Any], *, dynamic: Dynamic | None = None
    ) -> Any:
        """Compile `module` for each of `calls`, of which some may be of one form."""
