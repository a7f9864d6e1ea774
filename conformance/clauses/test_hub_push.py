"""Chapter HUB: what a push leaves on the Hub."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
import torch

from conformance.clauses import _compiles, _hubs
from conformance.clauses._applied import unless_refused
from conformance.clauses._hubs import REPOSITORY, assert_right, fetched, published
from conformance.models import blocks, export, regions
from conformance.spec import clause

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from conformance.adapter_hub import Hubs
    from conformance.cache import PackageCache
    from conformance.loopback import Hub


@clause("HUB-01")
def test_a_pushed_module_comes_back(
    impl: Hubs, cache: PackageCache, hub: Hub, seed: int
) -> None:
    revision = published(impl, cache)

    assert_right(fetched(impl, seed, revision=revision), seed)


@clause("HUB-01")
def test_pushed_blocks_come_back(
    impl: Hubs, cache: PackageCache, hub: Hub, seed: int
) -> None:
    for revision in _hubs.published_blocks(impl, cache, seed):
        _hubs.assert_blocks_right(impl, revision, seed)


@clause("HUB-01")
def test_a_module_that_was_pushed_over_blocks_comes_back(
    impl: Hubs, cache: PackageCache, hub: Hub, seed: int
) -> None:
    earlier = _hubs.published_blocks(impl, cache, seed)

    for revision in unless_refused(lambda: published(impl, cache)):
        assert_right(fetched(impl, seed, revision=revision), seed)
    for first in earlier:
        _hubs.assert_blocks_right(impl, first, seed)


@clause("HUB-02")
def test_a_push_is_one_commit(impl: Hubs, cache: PackageCache, hub: Hub) -> None:
    repository = hub.make(REPOSITORY)
    before = list(repository.commits)

    revision = published(impl, cache)

    added = [sha for sha in repository.commits if sha not in before]
    assert added == [revision] == [repository.branches["main"]]


@clause("HUB-03")
@pytest.mark.parametrize("taken", [0, 1])
def test_a_push_is_whole_or_changes_nothing(
    impl: Hubs, cache: PackageCache, hub: Hub, taken: int
) -> None:
    before = hub.make(REPOSITORY).head()
    hub.commits_left = taken

    pushed = unless_refused(lambda: published(impl, cache))

    assert len(pushed) <= taken
    assert pushed or hub[REPOSITORY].head() == before


@clause("HUB-04")
def test_a_card_says_what_was_pushed(impl: Hubs, cache: PackageCache, hub: Hub) -> None:
    figures = {"latency of a step": "3.25 ms", "speed-up": "1.75"}

    published(impl, cache, model="acme/base", model_revision="5e1f00d", figures=figures)

    card = hub[REPOSITORY].head()["README.md"].decode()
    release = ".".join(torch.__version__.split(".")[:2])
    device = next(blocks.seeded(blocks.Stack).parameters()).device.type
    wanted = ["Stack", "acme/base", "5e1f00d", release, device]
    wanted += [*figures, *figures.values()]
    assert [text for text in wanted if text not in card] == []


@clause("HUB-04")
def test_a_card_says_which_diffusers_a_module_is_of(
    impl: Hubs, cache: PackageCache, hub: Hub
) -> None:
    compiled = cache.compiled(blocks.seeded(export.Output), export.rows_call())

    impl.publish(compiled, REPOSITORY)

    card = hub[REPOSITORY].head()["README.md"].decode()
    wanted = ["diffusers", version("diffusers")]
    assert [text for text in wanted if text not in card] == []


@clause("HUB-05")
def test_weights_stay_at_home(
    impl: Hubs, cache: PackageCache, hub: Hub, tmp_path: Path
) -> None:
    published(impl, cache)

    _assert_no_weights(hub, tmp_path, blocks.seeded(blocks.Stack))


@clause("HUB-05")
def test_weights_of_blocks_stay_at_home(
    impl: Hubs, cache: PackageCache, hub: Hub, tmp_path: Path, seed: int
) -> None:
    for _ in _hubs.published_blocks(impl, cache, seed):
        _assert_no_weights(hub, tmp_path, blocks.seeded(regions.Twofold, seed))


def _assert_no_weights(hub: Hub, tmp_path: Path, module: nn.Module) -> None:
    files = hub[REPOSITORY].head()
    for number, data in enumerate(files.values()):
        (tmp_path / "files" / str(number)).mkdir(parents=True)
        (tmp_path / "files" / str(number) / "file").write_bytes(data)
    found = _compiles.weights_in(tmp_path / "files", module)
    assert len(files) > 1
    assert found == []


@clause("HUB-22")
def test_a_push_keeps_other_variants(
    impl: Hubs, cache: PackageCache, hub: Hub, seed: int
) -> None:
    for variant in ("small-first", "fast-second"):
        revision = published(impl, cache, variant=variant)

    for variant in ("small-first", "fast-second"):
        module = fetched(impl, seed, revision=revision, variant=variant)
        assert_right(module, seed)
        assert variant in hub[REPOSITORY].head()["README.md"].decode()


@clause("HUB-23")
def test_a_push_onto_a_moved_branch_loses_nothing(
    impl: Hubs, cache: PackageCache, hub: Hub
) -> None:
    branches = hub.make(REPOSITORY).branches
    before = dict(branches)
    theirs = published(impl, cache, variant="theirs-first")
    branches |= before
    # Not by a verb: within another one, that would ask for two at once.
    hub.before_commit = [lambda: branches.update(main=theirs)]

    pushed = unless_refused(lambda: published(impl, cache, variant="ours-second"))

    card = hub[REPOSITORY].head()["README.md"].decode()
    assert hub.before_commit == []
    assert "theirs-first" in card
    assert not pushed or "ours-second" in card
