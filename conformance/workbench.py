"""What clause tests share: make compiled twins, prove that they ran, judge refusals.

The branch between "equal" and "refused" stands here, once, and not in the tests.
"""

from __future__ import annotations

import copy
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from conformance.adapter import Refused, Unsupported
from conformance.parity import assert_parity, truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import nn

    from conformance.adapter import Adapter, Dynamic
    from conformance.cache import PackageCache

# Errors that nobody raises on purpose to a caller: they name no argument and
# no expectation, so they are accidents and not refusals. What an implementation
# derives from them is of its own making.
ACCIDENTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    NotImplementedError,
    RecursionError,
    UnicodeError,
)

# Whose errors are nobody's own making: those of Python, and of what layers stand on.
_FOREIGN = sys.stdlib_module_names | {"torch", "numpy"}


class Refusal:
    """What an implementation said when it refused; `str` gives its words."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __str__(self) -> str:
        return str(self.error)


class Pair(NamedTuple):
    """A module, and a copy of it that a compiled model was applied to."""

    eager: nn.Module
    applied: nn.Module

    def __repr__(self) -> str:
        return f"Pair of {type(self.eager).__name__}"


@contextmanager
def refuses() -> Iterator[Refusal]:
    """Assert that the block is refused: an error on purpose, with a message.

    A block that ends normally fails, and so does one that stumbles over an
    error that nobody raises on purpose (see ACCIDENTS).
    """
    __tracebackhide__ = True
    refusal = Refusal()
    try:
        yield refusal
    except Unsupported:
        raise
    except Exception as error:
        if not is_refusal(error):
            raise
        refusal.error = error
        return
    message = "expected a refusal, and nothing was raised"
    raise AssertionError(message)


@contextmanager
def declined(verb: str, *names: str) -> Iterator[None]:
    """Assert that a verb in the block raises `Refused`, in words that hold `names`."""
    __tracebackhide__ = True
    naming = f", naming {' and '.join(names)}" if names else ""
    words = None
    try:
        yield
    except Refused as refusal:
        words = str(refusal)
    assert words is not None, f"{verb} was expected to refuse{naming}, and ended well"
    missing = [name for name in names if name not in words]
    assert not missing, f"{verb} refused without naming {missing}: {words}"


def is_refusal(error: Exception) -> bool:
    """Whether `error` says no on purpose, in words.

    >>> is_refusal(KeyError("x")), is_refusal(ValueError("x: wants 3, found 4"))
    (False, True)
    """
    if isinstance(error, Refused):
        return True
    own = type(error).__module__.partition(".")[0] not in _FOREIGN
    accident = isinstance(error, ACCIDENTS) and not own
    return not (accident or isinstance(error, Unsupported)) and bool(str(error).strip())


@contextmanager
def ran_compiled(module: nn.Module) -> Iterator[None]:
    """Assert that the block runs no Python of the module's children.

    Eager code enters every child through `Module.__call__`; compiled code
    enters none. The module must have children for this to prove anything.
    """
    __tracebackhide__ = True
    children = {id(child) for child in module.modules()} - {id(module)}
    assert children, f"{type(module).__name__} has no children to watch"
    entered: list[str] = []

    def watch(child: nn.Module, _args: Any) -> None:
        if torch.compiler.is_compiling():
            return  # torch.compile follows the Python of what it is about to replace
        if id(child) in children:
            entered.append(type(child).__name__)

    handle = register_module_forward_pre_hook(watch)
    try:
        yield
    finally:
        handle.remove()
    assert not entered, f"eager code ran: {', '.join(sorted(set(entered)))} was entered"


def is_named(words: str, argument: str) -> bool:
    """Whether a refusal names an argument: as a word, not within another.

    >>> is_named("x: wants float32[4]", "x"), is_named("expected 7 inputs", "x")
    (True, False)
    """
    return re.search(rf"\b{re.escape(argument)}\b", words) is not None


def applied_copy(impl: Adapter, compiled: Any, module: nn.Module) -> nn.Module:
    """Apply `compiled` to a copy of `module`, which stays eager itself."""
    twin = copy.deepcopy(module)
    impl.apply(compiled, twin)
    return twin


def pair(
    impl: Adapter,
    cache: PackageCache,
    module: nn.Module,
    call: Any,
    *,
    dynamic: Dynamic | None = None,
    options: dict[str, Any] | None = None,
) -> Pair:
    """Compile `module` for `call`, or take it from the cache; apply it to a copy."""
    source = copy.deepcopy(module)  # an implementation may take its weights away
    compiled = cache.compiled(source, call, dynamic=dynamic, options=options)
    return Pair(module, applied_copy(impl, compiled, module))


def assert_agrees(twins: Pair, call: Any) -> None:
    """Assert parity for one call, and that compiled code answered it."""
    __tracebackhide__ = True
    with torch.no_grad():
        expected = twins.eager(*_copied(call.args), **_copied(dict(call.kwargs)))
        with ran_compiled(twins.applied):
            actual = twins.applied(*call.args, **call.kwargs)
    assert_parity(actual, expected, truth(twins.eager, call))


def assert_answers(actual: Any, module: nn.Module, call: Any) -> None:
    """Assert that `actual` is as near the truth as what `module` answers to `call`.

    Args:
        actual: What compiled code has answered, wherever and whenever that was.
        module: Eager.
        call: What was called.
    """
    __tracebackhide__ = True
    with torch.no_grad():
        expected = module(*_copied(call.args), **_copied(dict(call.kwargs)))
    assert_parity(actual, expected, truth(module, call), strides=False)


def assert_equal_or_refused(twins: Pair, call: Any) -> None:
    """Assert that a call is answered as eager answers it, or refused.

    Where eager itself raises, the compiled module must refuse.
    """
    __tracebackhide__ = True
    with torch.no_grad():
        expected = attempt(
            lambda: twins.eager(*_copied(call.args), **_copied(dict(call.kwargs)))
        )
        actual = attempt(lambda: twins.applied(*call.args, **call.kwargs))
    if actual.error is not None:
        if not (is_refusal(actual.error) or same_error(actual, expected)):
            raise actual.error
        return
    if expected.error is not None:
        message = f"eager raises {expected.error!r}, and the compiled call was answered"
        raise AssertionError(message)
    exact = truth(twins.eager, call)
    assert_parity(actual.value, expected.value, exact, strides=False)


def assert_agrees_or_refuses(make: Callable[[], Pair], calls: Iterable[Any]) -> None:
    """Assert that building is refused, or that every call is equal or refused.

    Args:
        make: Exports, compiles and applies. `Refused` out of it ends the test
            well; every other error is the implementation's.
        calls: What to call, with `args` and `kwargs`.
    """
    __tracebackhide__ = True
    try:
        twins = make()
    except Refused:
        return
    for call in calls:
        assert_equal_or_refused(twins, call)


class Attempt(NamedTuple):
    """What a function returned, or what it raised."""

    value: Any
    error: Exception | None


def same_error(actual: Attempt, expected: Attempt) -> bool:
    """Whether compiled code raises the very error that eager raises."""
    found, wanted = actual.error, expected.error
    return type(found) is type(wanted) and str(found) == str(wanted)


def attempt(function: Callable[[], Any]) -> Attempt:
    """Call `function`, and keep what it raises."""
    try:
        return Attempt(function(), None)
    except Exception as error:  # noqa: BLE001  # that is what it is for
        return Attempt(None, error)


def built(
    impl: Adapter, module: nn.Module, call: Any, *, dynamic: Dynamic | None = None
) -> Pair:
    """Export, compile and apply without the cache."""
    source = copy.deepcopy(module)
    compiled = impl.compile(impl.export(source, call, dynamic=dynamic))
    return Pair(module, applied_copy(impl, compiled, module))


def _copied(arguments: Any) -> Any:
    """Copy arguments, so that code that writes into them cannot touch the other's."""
    return copy.deepcopy(arguments)
