"""The numerical rule: an answer may be as far from the truth as eager is, no farther.

Compiled code skips roundings that eager makes, so it may be nearer the truth and
yet far from eager. The oracle is therefore a float64 run; the margins are those of
SPEC.md, chapter NUM, and stand nowhere else in the code.
"""

from __future__ import annotations

import copy
import math
import sys
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from conformance.adapter import Call


class Margin(NamedTuple):
    """How far an answer may be from the truth.

    Args:
        times: Multiple of eager's own root mean square error.
        floor: Share of the truth's root mean square that is always allowed.
        peak: Multiple of both for the single worst element.
    """

    times: float
    floor: float
    peak: float = 8.0


# After the rule of torch's dynamo benchmarks, with floors relative to the answer.
MARGINS = {
    torch.float64: Margin(2.0, 1e-12),
    torch.float32: Margin(2.0, 1e-5),
    torch.float16: Margin(3.0, 1e-4),
    torch.bfloat16: Margin(3.0, 1e-3),
}


class Errors(NamedTuple):
    """Distances from the truth, relative to the truth's root mean square."""

    actual: float
    eager: float
    allowed: float


def truth(module: nn.Module, call: Any) -> Any:
    """Run a copy of `module` in float64 on the float64 values of `call`.

    Models narrow parts of themselves to float32 on purpose (rotary embeddings,
    norms, timesteps); here those parts stay wide, or the oracle would share
    eager's roundings and take a nearer answer for a worse one.

    Args:
        module: Any floating dtype; it is left alone.
        call: Anything with `args` and `kwargs`.
    """
    exact = plain(copy.deepcopy(module)).double()
    wide = double(call)
    with torch.no_grad(), _Wide():
        return exact(*wide.args, **wide.kwargs)


def plain(module: nn.Module) -> nn.Module:
    """Put what torchao's weights stand for in their place."""
    quantised = getattr(sys.modules.get("torchao.utils"), "TorchAOBaseTensor", ())
    for part in module.modules():
        for key, weight in [*part.named_parameters(recurse=False)]:
            if isinstance(weight, quantised):
                values: Any = weight.dequantize()
                part.register_parameter(key, nn.Parameter(values, requires_grad=False))
    return module


class _Wide(TorchFunctionMode):
    """Turns every request for a narrower floating dtype into float64."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in _NARROWING:
            return args[0].double()
        args, kwargs = pytree.tree_map(_widen_dtype, (args, kwargs or {}))
        return func(*args, **kwargs)


_NARROWING = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16}
_WIDER = {
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
}


def _widen_dtype(leaf: Any) -> Any:
    return _WIDER.get(leaf, leaf) if isinstance(leaf, torch.dtype) else leaf


def double(call: Any) -> Call:
    """Copy a call with its floating tensors in float64, complex ones in complex128."""

    def widen(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if leaf.is_complex():
            return leaf.to(torch.complex128)
        return leaf.double() if leaf.is_floating_point() else leaf.clone()

    args, kwargs = pytree.tree_map(widen, (tuple(call.args), dict(call.kwargs)))
    return Call(args, kwargs)


def assert_parity(actual: Any, eager: Any, exact: Any, *, strides: bool = True) -> None:
    """Assert that `actual` has eager's form, and is as near the truth as eager.

    Args:
        actual: What the compiled module returned.
        eager: What the module itself returned for the same call.
        exact: What it returned in float64; see `truth`.
        strides: Whether strides must be eager's. They must for arguments laid out
            as those that were exported.
    """
    __tracebackhide__ = True
    assert_same_form(actual, eager, strides=strides)
    pairs = zip(_leaves(actual), _leaves(eager), _leaves(exact), strict=True)
    for (path, got), (_, want), (_, best) in pairs:
        if isinstance(got, torch.Tensor):
            _assert_near(path, got, want, best)


def assert_same_form(actual: Any, eager: Any, *, strides: bool = True) -> None:
    """Assert equal structure and types; for tensors dtype, device, sizes, strides."""
    __tracebackhide__ = True
    got, want = pytree.tree_structure(actual), pytree.tree_structure(eager)
    assert type(actual) is type(eager), (
        f"the result is a {type(actual).__name__}, eager's a {type(eager).__name__}"
    )
    assert got == want, f"the result is built as {got}, eager's as {want}"
    for (path, a), (_, b) in zip(_leaves(actual), _leaves(eager), strict=True):
        assert type(a) is type(b), (
            f"{path} is a {type(a).__name__}, eager's a {type(b).__name__}"
        )
        if isinstance(a, torch.Tensor):
            got_form, want_form = _form(a, strides=strides), _form(b, strides=strides)
            assert got_form == want_form, f"{path} is {got_form}, eager's {want_form}"
        else:
            assert a == b or (a != a and b != b), f"{path} is {a!r}, eager's {b!r}"  # noqa: PLR0124


def distances(actual: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor) -> Errors:
    """Measure how far `actual` and `eager` are from `exact`.

    Args:
        actual: float dtype, any shape.
        eager: The same dtype and shape.
        exact: float64, the same shape.
    """
    margin = MARGINS[eager.dtype]
    a, e, t = (x.detach().to("cpu", torch.float64) for x in (actual, eager, exact))
    scale = max(_rms(t), torch.finfo(eager.dtype).tiny)
    off, own = _rms(a - t) / scale, _rms(e - t) / scale
    return Errors(off, own, margin.times * own + margin.floor)


def _assert_near(
    path: str, actual: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor
) -> None:
    __tracebackhide__ = True
    if not eager.is_floating_point() and not eager.is_complex():
        assert torch.equal(actual, eager), f"{path} differs from eager's integers"
        return
    if eager.is_complex():
        actual, eager, exact = (torch.view_as_real(x) for x in (actual, eager, exact))
    for name, test in (("NaN", torch.isnan), ("infinity", torch.isinf)):
        assert torch.equal(test(actual), test(eager)), f"{path}: {name} in other places"
    finite = torch.isfinite(eager)
    if not finite.any():
        return
    got, want, best = actual[finite], eager[finite], exact[finite]
    errors = distances(got, want, best)
    assert errors.actual <= errors.allowed, (
        f"{path} is {errors.actual:.3g} from the float64 run (relative rms), eager is "
        f"{errors.eager:.3g}; {errors.allowed:.3g} is allowed"
    )
    worst, limit = _peak(got, want, best)
    assert worst <= limit, (
        f"{path}: one element is {worst:.3g} from the float64 run (relative to its "
        f"rms), where {limit:.3g} is allowed"
    )


def _peak(
    actual: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor
) -> tuple[float, float]:
    margin = MARGINS[eager.dtype]
    a, e, t = (x.detach().to("cpu", torch.float64) for x in (actual, eager, exact))
    scale = max(_rms(t), torch.finfo(eager.dtype).tiny)
    worst, own = ((x - t).abs().max().item() / scale for x in (a, e))
    peak_of_truth = t.abs().max().item() / scale
    floor = margin.floor * max(peak_of_truth, 1.0)
    return worst, margin.peak * (margin.times * own + floor)


def _rms(x: torch.Tensor) -> float:
    return math.sqrt(x.square().mean().item()) if x.numel() else 0.0


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    try:
        found, _ = pytree.tree_flatten_with_path(tree)
    except ValueError:  # diffusers registers its outputs without names of paths
        return [(f"leaf {n}", leaf) for n, leaf in enumerate(pytree.tree_leaves(tree))]
    return [(f"result{pytree.keystr(path)}", leaf) for path, leaf in found]


def _form(x: torch.Tensor, *, strides: bool) -> str:
    dtype = str(x.dtype).removeprefix("torch.")
    text = f"{dtype}{list(x.shape)} on {x.device}"
    # Strides say nothing where a dimension has one element at most.
    pairs = zip(x.shape, x.stride(), strict=True)
    told = [s for size, s in pairs if size > 1] if x.numel() else []
    return f"{text}, strides {told}" if strides else text
