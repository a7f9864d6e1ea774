"""Private parts of Inductor and of export, and switches between their versions.

Read against torch 2.10 to 2.13.
"""

from __future__ import annotations

import io
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch._inductor
import torch._inductor.async_compile
import torch._inductor.codecache  # 2.10 forgets it when a cold process loads
import torch._inductor.config
import torch._inductor.exc
import torch.fx.experimental._config as fx_config
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental import proxy_tensor
from torch.utils import _pytree as pytree
from torch.utils._sympy.printers import PythonPrinter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from aoti_ref._weights import Memory

OUTPUT = "aot_inductor.output_path"

# Without these a package would hold weights, fold all-equal parameters into
# literals, inline small ones, repack them for products that it tunes, or keep what it
# makes of them at the first run: they could not be updated afterwards. Random numbers
# would come from a stream of their own instead of torch's generator.
PROMISES: Mapping[str, Any] = {
    "aot_inductor.package": True,
    "aot_inductor.package_constants_in_so": False,
    "aot_inductor.package_constants_on_disk_format": None,
    "always_keep_tensor_constants": True,
    "aot_inductor.use_runtime_constant_folding": False,
    "joint_graph_constant_folding": False,
    "freezing": False,
    "cpp.weight_prepack": False,
    "fallback_random": True,
    OUTPUT: "",  # `compile` has a folder of its own
}
_METADATA = "aot_inductor.metadata"


class Runner(Protocol):
    """One loaded graph with constants of its own (torch's container runner)."""

    def run(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]: ...
    def get_constant_names_to_original_fqns(self) -> dict[str, str]: ...
    def update_constant_buffer(
        self,
        constants: dict[str, torch.Tensor],
        use_inactive: bool,  # noqa: FBT001  # torch's signature
        check_full_update: bool,  # noqa: FBT001
        user_managed: bool,  # noqa: FBT001
        /,
    ) -> None: ...


def known_options() -> set[str]:
    """List the names of Inductor's options."""
    return set(torch._inductor.config.get_config_copy())


@contextmanager
def distinct_sizes() -> Iterator[None]:
    """Keep two dimensions apart whose example sizes happen to be equal."""
    patch: Any = fx_config.patch  # type: ignore[attr-defined]  # put in at import
    with patch(use_duck_shape=False):
        yield


def aot_compile(
    graph: torch.fx.GraphModule,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: dict[str, Any],
) -> list[Path]:
    """Compile `graph` and list the files that make its package."""
    # Inductor writes what it finds out about the machine into this very dict.
    found = options.get(_METADATA, torch._inductor.config.aot_inductor.metadata)
    options = {**options, _METADATA: dict(found)}
    environment = dict(os.environ)
    workers = bool(torch._inductor.async_compile._pool_set)
    try:
        files: Any = torch._inductor.aot_compile(graph, args, kwargs, options=options)
    finally:
        _forget_traces()
        # Triton's compiler leaves a variable, and its workers go on living: a
        # forked GPU job would keep them, and with them the device.
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        if torch._inductor.async_compile._pool_set and not workers:
            torch._inductor.async_compile.shutdown_compile_workers()
    return [Path(file) for file in files if isinstance(file, str)]


def _forget_traces() -> None:
    """Let go of the last program that was exported: torch keeps it to debug leaks."""
    kept = getattr(proxy_tensor, "_FAKE_TENSOR_ID_TO_PROXY_MAP_FOR_EXPORT", {})
    kept.clear()


def conditions(size: torch.SymInt, symbols: set[str]) -> list[str]:
    """Write what export took for granted about `symbols`, as Python over their names.

    Args:
        size: Any size of the program that varies.
        symbols: The names of the symbols that matter.
    """
    shapes = size.node.shape_env
    texts: list[str] = []
    for guard in shapes.guards:
        condition = shapes.simplify(guard.expr)
        names = {str(symbol) for symbol in condition.free_symbols}
        # What is demanded of one symbol alone is in that symbol's range.
        if len(names) > 1 and names <= symbols:
            texts.append(PythonPrinter().doprint(condition))
    return texts


def traced(
    function: Callable[..., Any], values: list[Any]
) -> tuple[torch.fx.GraphModule, list[str]]:
    """Trace a function into operators that are no composites.

    Args:
        function: Of fake tensors and of sizes.
        values: What it is given; a tensor among them at least.

    Returns:
        Its graph, without what nobody uses; and what it took for granted of sizes
        that vary, as Python over their symbols.
    """
    mode: Any = next(v.fake_mode for v in values if isinstance(v, FakeTensor))
    shapes = mode.shape_env
    known = len(shapes.guards) if shapes else 0
    with mode:
        graph: torch.fx.GraphModule = proxy_tensor.make_fx(function)(*values)
    graph.graph.eliminate_dead_code()
    fresh = shapes.guards[known:] if shapes else []
    return graph, [PythonPrinter().doprint(guard.expr) for guard in fresh]


def cache_folder() -> str:
    """Give the folder in which Inductor keeps what it compiles."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    found: str = cache_dir()
    return found


def call_as(graph: torch.fx.GraphModule, args: Any, kwargs: Any) -> None:
    """Have the library of a graph say that it is called with `(args, kwargs)`."""
    codegen: Any = graph.graph._codegen
    spec = pytree.tree_structure((args, kwargs))
    codegen.pytree_info = codegen.pytree_info._replace(in_spec=spec)


def compiler_missing(error: BaseException) -> bool:
    """Whether a compile failed for want of a C++ compiler."""
    return isinstance(error, torch._inductor.exc.InvalidCxxCompiler)


def goes_by_sources() -> bool:
    """Whether torch's own loader finds what belongs to a graph by its source's name."""
    return torch.__version__ < "2.13"  # compared as releases


def pack(files: list[Path], extra: dict[str, str]) -> bytes:
    """Make a .pt2 archive that torch's own loader opens too."""
    from torch.export.pt2_archive._package import package_pt2

    buffer = io.BytesIO()
    models: Any = {"model": [str(file) for file in files]}
    package_pt2(buffer, aoti_files=models, extra_files=extra)
    return buffer.getvalue()


def borrow(memory: Memory) -> torch.Tensor:
    """Make a tensor on memory that it does not own.

    A runner never lets go of the constants that it was given (torch leaks their
    handles, 2.10 to 2.13): with tensors of the module's own, the weights would stay
    in memory for ever.
    """
    start, end = memory.bytes()
    storage = torch._C._construct_storage_from_data_pointer(
        start, memory.device, end - start
    )
    return _on(storage, 0, memory.dtype, memory.shape, memory.stride)


def owned(borrowed: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """Make the tensor that `borrowed` is, on the memory of `owner`, which it keeps."""
    storage = owner.untyped_storage()
    place = (borrowed.data_ptr() - storage.data_ptr()) // borrowed.element_size()
    return _on(storage, place, borrowed.dtype, borrowed.shape, borrowed.stride())


def _on(
    storage: torch.UntypedStorage | torch.types.Storage,
    place: int,
    dtype: torch.dtype,
    shape: torch.Size,
    stride: tuple[int, ...],
) -> torch.Tensor:
    # A tensor of inference mode could not be written to outside of it.
    with torch.inference_mode(mode=False):
        made = torch.empty(0, dtype=dtype, device=storage.device)
        return made.set_(storage, place, shape, stride)


_entered = threading.local()


def enter(index: int) -> None:
    """Give this thread a context on a GPU, if it has none.

    The graph launches its kernels by the driver, which fails in a thread that has
    done nothing on the GPU before.
    """
    known: set[int] = vars(_entered).setdefault("indices", set())
    if index not in known:
        torch.cuda.mem_get_info(index)  # through the runtime, which makes a context
        known.add(index)


def new_runner(library: Path, device: torch.device) -> Runner:
    """Load a compiled library for one set of constants.

    Args:
        library: The `.wrapper.so`, with the files of its package around it.
        device: Where its constants live.
    """
    made: Any
    if device.type == "cpu":
        made = torch._C._aoti.AOTIModelContainerRunnerCpu(str(library), 1)
    else:
        name = "cuda" if device.index is None else f"cuda:{device.index}"
        cuda: Any = torch._C._aoti.AOTIModelContainerRunnerCuda
        with torch.cuda.device(device):  # the library makes its GPU the current one
            made = cuda(str(library), 1, name, str(library.parent))
    runner: Runner = made
    return runner
