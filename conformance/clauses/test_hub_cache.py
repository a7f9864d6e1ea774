"""Chapter HUB: without the Hub, without room, and with half of a file."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from conformance import isolated
from conformance.clauses import _hubs
from conformance.clauses._hubs import (
    REPOSITORY,
    assert_right,
    assert_right_or_names,
    fetched,
    published,
)
from conformance.clauses._unpacking import in_child, no_room
from conformance.models import blocks
from conformance.spec import clause
from conformance.workbench import refuses

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter_hub import Hubs
    from conformance.cache import PackageCache
    from conformance.loopback import Hub


@pytest.fixture
def revision(impl: Hubs, cache: PackageCache, hub: Hub) -> str:
    """Push a compiled Stack, and give the commit."""
    return published(impl, cache)


@clause("HUB-14")
def test_offline_the_cache_serves(
    impl: Hubs, hub: Hub, revision: str, tmp_path: Path, seed: int
) -> None:
    fetched(impl, seed, revision=revision)
    _hubs.connect(hub.url, tmp_path, offline=True)
    hub.requests.clear()

    module = fetched(impl, seed, revision=revision)

    assert_right(module, seed)
    assert hub.requests == []


@clause("HUB-15")
def test_offline_what_is_not_cached_is_named(
    impl: Hubs, hub: Hub, revision: str, tmp_path: Path, seed: int
) -> None:
    _hubs.connect(hub.url, tmp_path / "new", offline=True)
    hub.requests.clear()

    with refuses() as refusal:
        fetched(impl, seed, revision=revision)

    assert REPOSITORY in str(refusal)
    assert hub.requests == []


@clause("HUB-16")
def test_a_pinned_commit_is_asked_for_once(
    impl: Hubs, hub: Hub, revision: str, seed: int
) -> None:
    fetched(impl, seed, revision=revision)
    hub.close()

    assert_right(fetched(impl, seed, revision=revision), seed)


@clause("HUB-17")
def test_a_read_only_cache_serves_what_it_holds(
    impl: Hubs, hub: Hub, revision: str, tmp_path: Path, seed: int
) -> None:
    folder = _hubs.connect(hub.url, tmp_path)
    fetched(impl, seed, revision=revision)
    _hubs.closed_to_writing(folder)

    assert_right(fetched(impl, seed, revision=revision), seed)


@clause("HUB-17")
def test_a_read_only_cache_is_named_for_what_it_does_not_hold(
    impl: Hubs, hub: Hub, revision: str, tmp_path: Path, seed: int
) -> None:
    folder = _hubs.connect(hub.url, tmp_path / "new")
    folder.mkdir(parents=True)
    _hubs.closed_to_writing(folder)

    with refuses() as refusal:
        fetched(impl, seed, revision=revision)

    assert str(folder) in str(refusal)


@clause("HUB-18")
def test_a_full_disk_is_named_and_does_no_harm(
    impl: Hubs, hub: Hub, revision: str, tmp_path: Path, seed: int
) -> None:
    folder = _hubs.connect(hub.url, tmp_path / "new")

    with no_room(), refuses() as refusal:
        fetched(impl, seed, revision=revision)

    assert str(folder) in str(refusal)
    assert_right(fetched(impl, seed, revision=revision), seed)


@clause("HUB-19")
@pytest.mark.parametrize("times", [1, 1000])
def test_a_transfer_that_breaks_off_is_no_package(
    impl: Hubs, hub: Hub, revision: str, seed: int, times: int
) -> None:
    head = hub[REPOSITORY].head()
    largest = max(head, key=lambda name: len(head[name])).rpartition("/")[2]
    hub.cuts[largest] = times

    assert_right_or_names(
        lambda: fetched(impl, seed, revision=revision), seed, REPOSITORY
    )

    hub.cuts.clear()
    assert_right(fetched(impl, seed, revision=revision), seed)


@clause("HUB-21")
@pytest.mark.usefixtures("on_the_cpu")  # it forks, which survives no CUDA
def test_what_was_fetched_needs_the_hub_no_more(
    impl: Hubs, cache: PackageCache, hub: Hub, tmp_path: Path, seed: int
) -> None:
    folder = _hubs.connect(hub.url, tmp_path)
    ending = isolated.run_forked(lambda: published(impl, cache), deadline_s=300)
    assert ending.kind == "answer", ending.text
    module = blocks.seeded(blocks.Stack, seed)
    compiled = impl.fetch(REPOSITORY, revision=ending.answer, trust=_hubs.TRUST)
    impl.apply(compiled, module)

    def serve() -> Any:
        assert_right(module, seed)
        return "served"

    hub.close()
    shutil.rmtree(folder)
    (tmp_path / "temporary").mkdir()
    assert in_child(serve, tmp_path / "temporary") == "served"
