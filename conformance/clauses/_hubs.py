"""What the clauses of HUB share: a client that talks to loopback, and its judges."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, cast

from conformance.adapter import load
from conformance.clauses._regions import assert_blocks_agree, compiled_twofold
from conformance.models import blocks, regions
from conformance.spec import blocked
from conformance.workbench import Pair, assert_agrees, attempt, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import nn

    from conformance.adapter_hub import Hubs
    from conformance.cache import PackageCache
    from conformance.loopback import Hub

REPOSITORY = "acme/stack"
TRUST = ("acme",)
_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 1 << 14, 1 << 18


def connect(url: str, folder: Path, *, offline: bool = False) -> Path:
    """Have the client of this process talk to `url`, with a cache in `folder`.

    Returns:
        The cache.
    """
    cache = folder / "cache"
    os.environ |= {
        "HF_ENDPOINT": url,
        "HF_HOME": str(folder / "home"),  # no token of the machine's
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "NO_PROXY": "127.0.0.1",
    }
    os.environ.pop("HF_TOKEN", None)
    # It reads its variables once; all of it looks them up in this module.
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        importlib.reload(constants)
    client: Any = sys.modules.get("huggingface_hub.hf_api")
    if client is not None:
        client.api.endpoint = url
    return cache


def compiled_stack(cache: PackageCache) -> Any:
    """Compile a Stack, or take it from the cache."""
    return cache.compiled(blocks.seeded(blocks.Stack), blocks.call())


def published(impl: Hubs, cache: PackageCache, **said: Any) -> str:
    """Push a compiled Stack, and give the commit."""
    return impl.publish(compiled_stack(cache), REPOSITORY, **said)


def published_blocks(impl: Hubs, cache: PackageCache, seed: int) -> list[str]:
    """Push the compiled blocks of a Twofold, if there are such; give the commit."""
    if "regional" not in impl.capabilities:
        return []
    return [impl.publish(compiled_twofold(cache, seed), REPOSITORY)]


def fetched(impl: Hubs, seed: int, **said: Any) -> nn.Module:
    """Fetch, apply to a Stack of `seed`, and give that."""
    options = {"trust": TRUST, **said}
    module = blocks.seeded(blocks.Stack, seed)
    impl.apply(impl.fetch(REPOSITORY, **options), module)
    return module


def fetch_in_passing(adapter: str, revision: str) -> None:
    """Fetch in a fresh Python, whose client reads its variables anew; and apply.

    A layer may put off what it fetches until then.
    """
    impl = cast("Hubs", load(adapter))
    fetched = impl.fetch(REPOSITORY, revision=revision, trust=TRUST)
    impl.apply(fetched, blocks.seeded(blocks.Stack))


def assert_right(module: nn.Module, seed: int) -> None:
    """Assert that an applied Stack of `seed` answers as eager does, compiled."""
    __tracebackhide__ = True
    twin = blocks.seeded(blocks.Stack, seed)
    assert_agrees(Pair(twin, module), blocks.call(seed=seed))


def assert_blocks_right(impl: Hubs, revision: str, seed: int) -> None:
    """Assert that fetched blocks of a Twofold answer as eager does, compiled."""
    __tracebackhide__ = True
    twin, module = (blocks.seeded(regions.Twofold, seed) for _ in range(2))
    impl.apply(impl.fetch(REPOSITORY, revision=revision, trust=TRUST), module)
    assert_blocks_agree(Pair(twin, module), regions.call())


def assert_right_or_names(fetch: Callable[[], nn.Module], seed: int, name: str) -> None:
    """Assert that a fetch serves, or is refused in words that hold `name`."""
    __tracebackhide__ = True
    ended = attempt(fetch)
    if ended.error is None:
        assert_right(ended.value, seed)
        return
    if not is_refusal(ended.error):
        raise ended.error
    assert name in str(ended.error), str(ended.error)


def alter_the_largest(hub: Hub, change: Callable[[bytes], bytes]) -> None:
    """Have the Hub send the largest file of the repository with other bytes."""
    files = hub[REPOSITORY].head()
    largest = max(files, key=lambda name: len(files[name]))
    hub.altered[largest.rpartition("/")[2]] = change


@contextlib.contextmanager
def asks_for_no_file(hub: Hub) -> Iterator[None]:
    """Assert that the block asks the Hub for no file."""
    __tracebackhide__ = True
    before = len(hub.requests)
    yield
    asked = [request for request in hub.requests[before:] if "resolve" in request.path]
    assert asked == []


def closed_to_writing(folder: Path) -> None:
    """Make `folder` read-only for this process and its children."""
    if os.geteuid():
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)
        return
    libc: Any = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(folder)
    bound = _MS_REMOUNT | _MS_BIND | _MS_RDONLY
    steps: list[Callable[[], Any]] = [
        lambda: libc.unshare(_CLONE_NEWNS),
        lambda: libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None),
        lambda: libc.mount(target, target, None, _MS_BIND, None),
        lambda: libc.mount(b"none", target, None, bound, None),
    ]
    for step in steps:
        if step():
            blocked(f"mounting a folder: {os.strerror(ctypes.get_errno())}")
