"""Chapter PRC: what comes back from a job, and what cannot."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from conformance.clauses import _workers
from conformance.models import blocks, jobs
from conformance.spec import clause
from conformance.workbench import refuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conformance.adapter import Workers

pytestmark = pytest.mark.usefixtures("on_the_cpu")  # a parent starts no CUDA


@clause("PRC-07")
def test_a_large_result_comes_back_whole(impl: Workers, seed: int) -> None:
    before = _workers.belongings().segments

    result = impl.worker(lambda: blocks.normal(16 * 2**20, seed=seed))()

    assert _workers.belongings().segments == before
    assert torch.equal(result, blocks.normal(16 * 2**20, seed=seed))


@clause("PRC-07")
def test_a_result_keeps_its_structure(impl: Workers) -> None:
    def paint() -> tuple[jobs.Pictures, int]:
        rows = torch.arange(12, dtype=torch.bfloat16).view(3, 4)
        images = [rows, rows.t(), torch.tensor([True]), torch.empty(0, 3)]
        return jobs.Pictures(images, rows, {"seed": (1, None), "dtype": rows.dtype}), 3

    (pictures, count), (wanted, _) = impl.worker(paint)(), paint()

    assert count == 3
    assert type(pictures) is jobs.Pictures
    assert pictures.facts == wanted.facts
    for found, image in zip(pictures.images, wanted.images, strict=True):
        assert torch.equal(found, image)
        assert (found.dtype, found.stride()) == (image.dtype, image.stride())


@clause("PRC-07")
def test_a_result_keeps_its_types(impl: Workers) -> None:
    def paint() -> list[Any]:
        ones = torch.ones(2)
        return [nn.Parameter(ones), ones, (1, True, 0.5, None), OrderedDict(a=b"")]

    result, wanted = impl.worker(paint)(), paint()

    assert [type(value) for value in result] == [type(value) for value in wanted]
    assert result[0].requires_grad
    assert result[2:] == wanted[2:]
    assert torch.equal(result[0], wanted[0])


@clause("PRC-07")
@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16], ids=str
)
def test_a_result_may_have_a_new_dtype(impl: Workers, dtype: torch.dtype) -> None:
    def paint() -> torch.Tensor:
        return torch.arange(48, dtype=torch.uint8).view(dtype)

    result, wanted = impl.worker(paint)(), paint()

    assert result.dtype is dtype
    assert torch.equal(result.view(torch.uint8), wanted.view(torch.uint8))


def _conjugated() -> torch.Tensor:
    return torch.tensor([1 + 2j, 3 - 4j]).conj()


@clause("PRC-07")
@pytest.mark.parametrize(
    "paint", [_conjugated, lambda: _conjugated().imag], ids=["conjugated", "negated"]
)
def test_a_result_may_be_a_view_that_changes_signs(
    impl: Workers, paint: Callable[[], torch.Tensor]
) -> None:
    result, wanted = impl.worker(paint)(), paint()

    assert wanted.is_conj() or wanted.is_neg()
    assert torch.equal(result, wanted)
    assert (result.dtype, result.stride()) == (wanted.dtype, wanted.stride())


@clause("PRC-07")
def test_a_result_keeps_what_shares_memory(impl: Workers) -> None:
    def paint() -> jobs.Pictures:
        rows = torch.zeros(3, 4)
        return jobs.Pictures([rows, rows.t()], rows)

    pictures = impl.worker(paint)()
    pictures.images[0][0, 1] = 5

    assert pictures.images[0] is pictures.again
    assert pictures.images[1][1, 0] == 5


def _gives_a_lambda() -> Any:
    return lambda: None


def _yields_a_lambda() -> Iterator[Any]:
    yield lambda: None


def _takes(_value: Any) -> None:
    return None


@clause("PRC-08")
@pytest.mark.parametrize(
    ("function", "given", "what"),
    [
        pytest.param(_takes, (threading.Lock(),), "argument", id="argument"),
        pytest.param(_gives_a_lambda, (), "result", id="result"),
        pytest.param(threading.Lock, (), "result", id="lock"),
    ],
)
def test_what_does_not_pickle_is_refused(
    impl: Workers, function: Callable[..., Any], given: tuple[Any, ...], what: str
) -> None:
    job = impl.worker(function, duration_s=20)

    with refuses() as refusal:
        job(*given)

    assert what in str(refusal).lower()
    assert "pickle" in str(refusal)
    assert impl.worker(len)([1]) == 1


@clause("PRC-08")
def test_an_item_that_does_not_pickle_is_refused(impl: Workers) -> None:
    with refuses() as refusal:
        list(impl.worker(_yields_a_lambda, duration_s=20)())

    assert "item" in str(refusal).lower()
    assert "pickle" in str(refusal)
