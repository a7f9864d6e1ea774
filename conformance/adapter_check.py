"""What an adapter must be before a test may speak of its implementation."""

from __future__ import annotations

import importlib.util
import inspect
from types import ModuleType
from typing import Any

from conformance.adapter import CAPABILITIES, CORE_VERBS, BadAdapter, Info

_KEEPING = (("freeze", "thaw"), ("save", "load"))


def check(name: str, found: Any) -> None:
    info = getattr(found, "info", None)
    if not isinstance(info, Info):
        raise BadAdapter(
            f"adapter {name!r}: info must be a conformance.adapter.Info, "
            f"found {type(info).__name__}"
        )
    declared = getattr(found, "capabilities", None)
    if not isinstance(declared, frozenset):
        raise BadAdapter(
            f"adapter {name!r}: capabilities must be a frozenset of names, "
            f"found {type(declared).__name__}"
        )
    if unknown := sorted(declared - set(CAPABILITIES)):
        raise BadAdapter(
            f"adapter {name!r} declares unknown capabilities: {', '.join(unknown)} "
            f"(known: {', '.join(CAPABILITIES)})"
        )
    wanted = [
        *CORE_VERBS,
        *(verb for c in sorted(declared) for verb in CAPABILITIES[c]),
    ]
    if missing := [v for v in wanted if not callable(getattr(found, v, None))]:
        raise BadAdapter(f"adapter {name!r} lacks the verbs: {', '.join(missing)}")
    if info.cacheable and not any(_has(found, *verbs) for verbs in _KEEPING):
        ways = " nor ".join(" and ".join(verbs) for verbs in _KEEPING)
        raise BadAdapter(f"adapter {name!r} is cacheable, and has neither {ways}")
    if absent := [package for package in info.packages if not _is_there(package)]:
        # What is kept would count for any state of an implementation that is not seen.
        raise BadAdapter(
            f"adapter {name!r}: info.packages must name what can be imported, "
            f"found {', '.join(absent)}"
        )


def files(adapter: Any) -> set[str]:
    """Name the files with the code of an adapter's verbs.

    An error that comes through one of them is the implementation's.
    """
    names = [*CORE_VERBS, *(verb for verbs in CAPABILITIES.values() for verb in verbs)]
    verbs = [inspect.unwrap(getattr(adapter, n)) for n in names if _has(adapter, n)]
    found = {code.co_filename for v in verbs if (code := getattr(v, "__code__", None))}
    own = getattr(adapter, "__file__", None)
    return found | ({own} if own and isinstance(adapter, ModuleType) else set())


def _has(found: Any, *verbs: str) -> bool:
    return all(callable(getattr(found, verb, None)) for verb in verbs)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
