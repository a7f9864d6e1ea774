"""What counts as a refusal: what an implementation raises on purpose, in words."""

from __future__ import annotations

import pytest

from conformance.adapter import Refused, Unsupported
from conformance.workbench import declined, is_refusal, refuses


class WeightGone(AttributeError):
    """An implementation's own, though it is derived from an accident's."""


@pytest.mark.parametrize(
    "error",
    [Refused(""), ValueError("x: wants 3, found 4"), WeightGone("proj.weight is gone")],
    ids=repr,
)
def test_what_is_said_on_purpose_is_a_refusal(error: Exception) -> None:
    assert is_refusal(error)


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'NoneType' object has no attribute 'shape'"),
        KeyError("bias"),
        UnicodeDecodeError("utf-8", b"\xa2", 0, 1, "invalid start byte"),
        WeightGone(""),
        ValueError(" "),
        Unsupported("none"),
    ],
    ids=repr,
)
def test_accidents_and_silence_are_none(error: Exception) -> None:
    assert not is_refusal(error)


def test_a_call_that_is_refused_by_an_error_of_its_own_is_refused() -> None:
    with refuses() as refusal:
        raise WeightGone("proj.weight is gone")

    assert str(refusal) == "proj.weight is gone"


def test_a_verb_that_refuses_names_all() -> None:
    with declined("apply", "proj.weight", "table"):
        raise Refused("proj.weight and table are missing")

    left = pytest.raises(AssertionError, match=r"without naming \['table'\]: proj")
    with left, declined("apply", "proj.weight", "table"):
        raise Refused("proj.weight is missing")


def test_a_verb_that_should_refuse_is_named() -> None:
    told = "apply was expected to refuse, naming proj.weight and table, and ended well"

    with (
        pytest.raises(AssertionError, match=told),
        declined("apply", "proj.weight", "table"),
    ):
        pass


def test_another_error_of_a_verb_is_no_refusal() -> None:
    with pytest.raises(RuntimeError, match="bad"), declined("apply"):
        raise RuntimeError("bad")
