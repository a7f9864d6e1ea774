"""How fast a model could be: its arithmetic at the speed that this machine reaches.

The work is counted from the shapes, on the meta device; the two ceilings, one for
matrix products and one for attention, are measured in the same run.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.full import gauge
from benchmarks.full.held import held
from benchmarks.full.models import DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.full.models import Model

_TERA = 1e12
# Heads and their width of FLUX, Wan and Qwen; long, so that the ends do not count.
_ATTENTION = (1, 24, 16384, 128)
# A large square, and the widest layer of FLUX at its own number of tokens.
_PRODUCTS = ((8192, 8192, 8192), (4608, 15360, 3072))
_TINY_ATTENTION = (1, 2, 256, 16)
_TINY_PRODUCTS = ((256, 256, 256),)
_BACKENDS = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION)
# On the meta device attention is taken apart, into products of batches.
_IN_ATTENTION = ("aten.bmm", "aten.baddbmm", "scaled_dot_product")


class _Task(NamedTuple):
    """What a ceiling is measured with: its work, and what does it."""

    tflop: float
    run: Callable[[], Any]


def work(model: Model, *, tiny: bool = False) -> dict[str, float]:
    """Count what one call needs, in TFLOP: matrix products and attention."""
    module = model.build("meta", tiny=tiny)
    call = model.inputs(module, "meta", tiny=tiny)
    with FlopCounterMode(display=False) as counter:
        module(**call)
    return divided(counter.get_flop_counts()["Global"])


def divided(counts: Mapping[Any, int]) -> dict[str, float]:
    """Sum operators up, in TFLOP."""
    found = {"matmul": 0.0, "attention": 0.0}
    for operator, count in counts.items():
        name = str(operator)
        kind = "attention" if any(w in name for w in _IN_ATTENTION) else "matmul"
        found[kind] += count / _TERA
    return found


def ceilings(device: str, *, tiny: bool = False) -> dict[str, float]:
    """Measure how many TFLOP/s this device reaches, with whatever does best."""
    found: dict[str, float] = {}
    for kind, tasks in _tasks(device, tiny=tiny).items():
        speeds = [task.tflop / _median_ms(task.run, device) * 1e3 for task in tasks]
        found[kind] = max(speeds)
    return found


def held_ceilings(device: str, *, tiny: bool = False) -> dict[str, dict[str, Any]]:
    """Measure the same over two seconds, each at what does best for a moment.

    Returns:
        For each kind `tflops`, and the `watts` and `mhz` of the GPU meanwhile.
    """
    found: dict[str, dict[str, Any]] = {}
    for kind, tasks in _tasks(device, tiny=tiny).items():
        best = max(tasks, key=lambda task: task.tflop / _median_ms(task.run, device))
        told = held(best.run, device)
        tflops = best.tflop / told.ms * 1e3
        found[kind] = {"tflops": tflops, "watts": told.watts, "mhz": told.mhz}
    return found


def _tasks(device: str, *, tiny: bool) -> dict[str, list[_Task]]:
    """Make what the ceilings are measured with, of each kind what this device has."""
    products = _TINY_PRODUCTS if tiny else _PRODUCTS
    found = {"matmul": [_product(*sizes, device) for sizes in products]}
    if device != "cpu" and torch.cuda.get_device_capability() >= (8, 9):
        found["matmul_fp8"] = [_fp8_product(*sizes, device) for sizes in products]
    sizes = _TINY_ATTENTION if tiny else _ATTENTION
    return found | {"attention": _attentions(sizes, device)}


def _product(m: int, n: int, k: int, device: str) -> _Task:
    a = torch.randn(m, k, device=device, dtype=DTYPE)
    b = torch.randn(n, k, device=device, dtype=DTYPE)
    return _Task(2 * m * n * k / _TERA, lambda: a @ b.t())


def _fp8_product(m: int, n: int, k: int, device: str) -> _Task:
    """Make a product of FP8 with one scale each."""
    a, b = (
        torch.randn(size, k, device=device).to(torch.float8_e4m3fn) for size in (m, n)
    )
    one = torch.ones((), device=device)
    given: Any = {"scale_a": one, "scale_b": one, "out_dtype": DTYPE}
    product = torch._scaled_mm  # noqa: SLF001  # nothing public multiplies FP8
    multiply = lambda: product(a, b.t(), use_fast_accum=True, **given)  # noqa: E731
    return _Task(2 * m * n * k / _TERA, multiply)


def _attentions(sizes: tuple[int, int, int, int], device: str) -> list[_Task]:
    """Make attention by each backend that runs here."""
    batch, heads, tokens, width = sizes
    q, k, v = (
        torch.randn(batch, heads, tokens, width, device=device, dtype=DTYPE)
        for _ in range(3)
    )

    def attend(backend: SDPBackend) -> torch.Tensor:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v)

    found = []
    for backend in _BACKENDS:
        try:
            attend(backend)
        except RuntimeError:
            continue
        tflop = 4 * batch * heads * tokens * tokens * width / _TERA
        found.append(_Task(tflop, partial(attend, backend)))
    return found


def _median_ms(function: Any, device: str) -> float:
    times: list[float] = gauge.in_turns({"it": function}, device, rounds=10)["it"]
    return statistics.median(times)


def milliseconds(
    work: Mapping[str, float],
    ceilings: Mapping[str, float],
    *,
    products: str = "matmul",
) -> float | None:
    """Give the time that the work takes at the ceilings, in milliseconds.

    Args:
        work: What `work` counted.
        ceilings: What `ceilings` measured.
        products: The ceiling of matrix products; None comes back if there is none.
    """
    if products not in ceilings:
        return None
    attention = work["attention"] / ceilings["attention"]
    return 1e3 * (work["matmul"] / ceilings[products] + attention)
