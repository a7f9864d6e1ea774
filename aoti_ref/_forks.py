"""Locks that a forked child can take, whoever held them in the parent."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

# Who has an attribute `_lock` that guards nothing but work to be done once.
_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def lock(owner: Any) -> threading.Lock:
    """Make a lock that `owner` keeps as `_lock`, and gets anew in every child.

    The thread that held it does not exist there. What it was about to do is done
    again: a lock like this stands before work, not around a change in two steps.
    """
    _owners.add(owner)
    return threading.Lock()


def _renew() -> None:
    for owner in _owners:
        owner._lock = threading.Lock()


os.register_at_fork(after_in_child=_renew)
