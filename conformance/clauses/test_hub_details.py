"""Chapter HUB: pushes over pushes, names beside names, and blocks without the Hub."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from conformance.clauses import _hubs
from conformance.clauses._applied import unless_refused
from conformance.clauses._hubs import (
    REPOSITORY,
    asks_for_no_file,
    assert_right,
    fetched,
    published,
)
from conformance.models import regions
from conformance.spec import clause
from conformance.workbench import refuses

if TYPE_CHECKING:
    from pathlib import Path

    from conformance.adapter_hub import Hubs
    from conformance.cache import PackageCache
    from conformance.loopback import Hub

VARIANT = "fast-first"


@pytest.fixture
def revision(impl: Hubs, cache: PackageCache, hub: Hub) -> str:
    """Push a compiled Stack, and give the commit."""
    return published(impl, cache)


@clause("HUB-02")
@pytest.mark.parametrize("variants", [("", ""), ("", "b"), ("a", "a")], ids=str)
def test_a_push_over_another_is_one_commit(
    impl: Hubs, cache: PackageCache, hub: Hub, variants: tuple[str, str]
) -> None:
    repository = hub.make(REPOSITORY)
    for number, variant in enumerate(variants):
        before, figures = list(repository.commits), {"step": f"{number} ms"}

        pushed = unless_refused(
            partial(published, impl, cache, variant=variant, figures=figures)
        )

        added = [sha for sha in repository.commits if sha not in before]
        assert added == pushed
        assert not pushed or pushed == [repository.branches["main"]]


@clause("HUB-03")
@pytest.mark.parametrize("taken", [0, 1])
@pytest.mark.parametrize("figure", ["1 ms", "2 ms"])
def test_a_push_over_another_is_whole_or_changes_nothing(
    impl: Hubs, cache: PackageCache, hub: Hub, taken: int, figure: str, seed: int
) -> None:
    published(impl, cache, figures={"step": "1 ms"})
    before = hub[REPOSITORY].head()
    hub.commits_left = taken

    pushed = unless_refused(lambda: published(impl, cache, figures={"step": figure}))

    assert pushed or hub[REPOSITORY].head() == before
    assert_right(fetched(impl, seed, revision=hub[REPOSITORY].branches["main"]), seed)


@clause("HUB-04")
def test_a_card_of_blocks_says_what_was_pushed(
    impl: Hubs, cache: PackageCache, hub: Hub, seed: int
) -> None:
    for _ in _hubs.published_blocks(impl, cache, seed):
        card = hub[REPOSITORY].head()["README.md"].decode()

        assert regions.Twofold.__name__ in card


@clause("HUB-07")
@pytest.mark.parametrize("trust", ["acme-labs/stack", "my-acme", "acme/stack-2", "ac"])
def test_a_name_that_is_given_alone_is_a_whole_name(
    impl: Hubs, hub: Hub, revision: str, seed: int, trust: str
) -> None:
    with asks_for_no_file(hub), refuses():
        fetched(impl, seed, revision=revision, trust=trust)


@clause("HUB-08")
@pytest.mark.parametrize("change", ["{}-old", "{}0", "{}^", "v{}", "{}\n", " {}"])
def test_a_name_that_holds_a_hash_pins_nothing(
    impl: Hubs, hub: Hub, revision: str, seed: int, change: str
) -> None:
    name = change.format(revision)
    hub[REPOSITORY].branches[name] = revision

    with asks_for_no_file(hub), refuses() as refusal:
        fetched(impl, seed, revision=name)

    assert revision in str(refusal)


@clause("HUB-14")
def test_offline_the_cache_serves_variants(
    impl: Hubs, cache: PackageCache, hub: Hub, tmp_path: Path, seed: int
) -> None:
    revision = published(impl, cache, variant=VARIANT)
    fetched(impl, seed, revision=revision, variant=VARIANT)
    _hubs.connect(hub.url, tmp_path, offline=True)
    hub.requests.clear()

    assert_right(fetched(impl, seed, revision=revision, variant=VARIANT), seed)
    assert hub.requests == []


@clause("HUB-14")
def test_offline_the_cache_serves_blocks(
    impl: Hubs, cache: PackageCache, hub: Hub, tmp_path: Path, seed: int
) -> None:
    for revision in _hubs.published_blocks(impl, cache, seed):
        _hubs.assert_blocks_right(impl, revision, seed)
        _hubs.connect(hub.url, tmp_path, offline=True)
        hub.requests.clear()

        _hubs.assert_blocks_right(impl, revision, seed)
        assert hub.requests == []


@clause("HUB-16")
def test_a_variant_of_a_pinned_commit_is_asked_for_once(
    impl: Hubs, cache: PackageCache, hub: Hub, seed: int
) -> None:
    revision = published(impl, cache, variant=VARIANT)
    fetched(impl, seed, revision=revision, variant=VARIANT)
    hub.close()

    assert_right(fetched(impl, seed, revision=revision, variant=VARIANT), seed)


@clause("HUB-16")
def test_blocks_of_a_pinned_commit_are_asked_for_once(
    impl: Hubs, cache: PackageCache, hub: Hub, seed: int
) -> None:
    for revision in _hubs.published_blocks(impl, cache, seed):
        _hubs.assert_blocks_right(impl, revision, seed)
        hub.close()

        _hubs.assert_blocks_right(impl, revision, seed)
