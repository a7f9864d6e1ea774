"""What the reference notes of the objects that a module refers to."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest

from aoti_ref._reading import Reading
from aoti_ref._values import ATTRIBUTES, ITEMS


class Options:
    """Has a number that is read, and one that is not."""

    def __init__(self) -> None:
        self.gain, self.other = 2.0, 3.0


class _Closed(type):
    def __setattr__(cls, name: str, value: object) -> None:
        message = f"{cls.__name__}.{name} is not to be set"
        raise AttributeError(message)


class ClosedOptions(Options, metaclass=_Closed):
    """Lets nobody change its class."""


class Itself(Options):
    """Refers to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.me = self


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (Options(), {ATTRIBUTES: {"gain": 2.0}}),
        (Itself(), {ATTRIBUTES: {"gain": 2.0}}),
        (ClosedOptions(), {ATTRIBUTES: {"gain": 2.0, "other": 3.0}}),
        (SimpleNamespace(gain=2.0), {ATTRIBUTES: {"gain": 2.0}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_read_of_an_object_is_noted(value: Any, form: dict[str, Any]) -> None:
    before = vars(type(value)).get("__getattribute__")

    with Reading() as reading:
        assert reading.follow("options", value)
        assert value.gain == 2.0
        assert getattr(value, "me", value).gain == 2.0

    assert reading.found() == {"options": form}
    assert vars(type(value)).get("__getattribute__") is before


def test_all_items_of_a_dict_that_cannot_be_watched_are_noted() -> None:
    value = OrderedDict(gain=2.0, path=object())

    with Reading() as reading:
        assert reading.follow("table", value)

    assert reading.found() == {"table": {ITEMS: {"gain": 2.0}}}


@pytest.mark.parametrize("value", [{"gain": 2.0}, 3, "here", Options, len])
def test_plain_values_and_classes_are_no_objects(value: Any) -> None:
    with Reading() as reading:
        assert not reading.follow("value", value)
