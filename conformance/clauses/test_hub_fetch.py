"""Chapter HUB: from whom a fetch takes what, and what it leaves to be refused."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from conformance import gauges
from conformance.clauses import _hubs
from conformance.clauses._applied import unless_refused
from conformance.clauses._hubs import (
    REPOSITORY,
    TRUST,
    asks_for_no_file,
    assert_right,
    fetched,
    published,
)
from conformance.fresh import fresh_python
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


@clause("HUB-06")
def test_native_code_needs_trust(
    impl: Hubs, hub: Hub, revision: str, seed: int
) -> None:
    with asks_for_no_file(hub), refuses() as refusal:
        fetched(impl, seed, revision=revision, trust=())

    assert REPOSITORY in str(refusal)


@clause("HUB-07")
def test_trust_is_for_whole_names(
    impl: Hubs, hub: Hub, revision: str, seed: int
) -> None:
    parts = ["acm", "stack", "acme/", "acme/stac", "", "*"]
    longer = ["acme-labs", "acme/stack-2", "my-acme", "my-acme/stack"]
    cases = ["Acme", "acme/Stack"]

    for other in parts + longer + cases:
        with asks_for_no_file(hub), refuses():
            fetched(impl, seed, revision=revision, trust=(other, "somebody/stack"))


@clause("HUB-07")
def test_repository_and_publisher_can_be_trusted(
    impl: Hubs, revision: str, seed: int
) -> None:
    for name in ("acme", REPOSITORY):
        module = fetched(impl, seed, revision=revision, trust=("others", name))

        assert_right(module, seed)


@clause("HUB-08")
def test_a_name_pins_nothing(impl: Hubs, hub: Hub, revision: str, seed: int) -> None:
    for name in ("main", "v1", "refs/pr/1", "v" * len(revision)):
        hub[REPOSITORY].branches[name] = revision

        with asks_for_no_file(hub), refuses() as refusal:
            fetched(impl, seed, revision=name)
        assert name in str(refusal)


@clause("HUB-08")
def test_no_revision_and_half_a_hash_pin_nothing(
    impl: Hubs, hub: Hub, revision: str, seed: int
) -> None:
    hub[REPOSITORY].branches[revision[:12]] = revision

    with asks_for_no_file(hub), refuses() as refusal:
        fetched(impl, seed, revision=revision[:12])
    with asks_for_no_file(hub), refuses():
        fetched(impl, seed)

    assert revision[:12] in str(refusal)


@clause("HUB-09")
def test_what_was_fetched_says_where_it_is_from(
    impl: Hubs, cache: PackageCache, hub: Hub, revision: str, seed: int
) -> None:
    for wanted in (revision, *_hubs.published_blocks(impl, cache, seed)):
        compiled = impl.fetch(REPOSITORY, revision=wanted, trust=TRUST)
        assert impl.origin(compiled) == (REPOSITORY, wanted)
        for text in unless_refused(lambda: pickle.dumps(compiled)):  # noqa: B023
            again = pickle.loads(text)  # noqa: S301  # our own
            assert impl.origin(again) == (REPOSITORY, wanted)


@clause("HUB-10")
def test_all_files_are_of_one_commit(
    impl: Hubs, hub: Hub, revision: str, seed: int
) -> None:
    repository = hub[REPOSITORY]
    moved: list[str] = []

    def move(_path: str) -> None:
        hub.before_file = str
        files = {name: data + b" " for name, data in repository.head().items()}
        moved.append(repository.commit(files))

    hub.served.clear()
    hub.before_file = move
    module = fetched(impl, seed, revision=revision)

    assert_right(module, seed)
    assert len(moved) == 1
    assert {served.commit for served in hub.served} == {revision}


@clause("HUB-11")
@pytest.mark.parametrize("missing", ["int4-large", "float8", "large"])
def test_a_missing_variant_is_named_with_those_present(
    impl: Hubs, cache: PackageCache, hub: Hub, seed: int, missing: str
) -> None:
    for variant in ("float8-large", "float8-small"):
        revision = published(impl, cache, variant=variant)

    with refuses() as refusal:
        fetched(impl, seed, revision=revision, variant=missing)

    wanted = [missing, "float8-large", "float8-small"]
    assert [name for name in wanted if name not in str(refusal)] == []


@clause("HUB-12")
def test_a_missing_repository_is_named(impl: Hubs, hub: Hub, seed: int) -> None:
    with refuses() as refusal:
        fetched(impl, seed, revision="0" * 40)

    assert REPOSITORY in str(refusal)


@clause("HUB-12")
def test_a_missing_commit_is_named(
    impl: Hubs, hub: Hub, revision: str, seed: int
) -> None:
    with refuses() as refusal:
        fetched(impl, seed, revision="0" * 40)

    assert REPOSITORY in str(refusal)
    assert "0" * 40 in str(refusal)


@clause("HUB-13")
def test_a_gated_repository_is_told_from_a_missing_one(
    impl: Hubs, hub: Hub, revision: str, seed: int
) -> None:
    hub[REPOSITORY].gated = True

    with refuses() as refusal:
        fetched(impl, seed, revision=revision)

    words = str(refusal)
    assert f"{hub.url}/{REPOSITORY}" in words
    del hub.repositories[f"models/{REPOSITORY}"]
    with refuses() as refusal:
        fetched(impl, seed, revision=revision)
    assert str(refusal) != words


@clause("HUB-24")
def test_a_fetch_shows_how_far_it_is(
    hub: Hub,
    revision: str,
    tmp_path: Path,
    adapter_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _hubs.connect(hub.url, tmp_path / "another")
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS")
    monkeypatch.setenv("TQDM_POSITION", "-1")  # the client's: where no terminal is, too

    task = "conformance.clauses._hubs:fetch_in_passing"
    done = fresh_python(task, adapter_name, revision)

    assert "100%" in done.stderr


def _turned(data: bytes) -> bytes:
    """Turn 64 bytes in the middle of a file."""
    middle = len(data) // 2
    turned = bytes(255 - x for x in data[middle:][:64])
    return data[:middle] + turned + data[middle + 64 :]


@clause("HUB-20")
def test_other_bytes_than_were_pushed_are_refused(
    impl: Hubs, hub: Hub, revision: str, seed: int
) -> None:
    _hubs.alter_the_largest(hub, _turned)
    before = gauges.libraries()

    with refuses():
        assert_right(fetched(impl, seed, revision=revision), seed)

    found = {path for path, _ in gauges.libraries() - before if "wrapper" in path}
    assert found == set()


@clause("HUB-20")
def test_other_bytes_of_blocks_than_were_pushed_are_refused(
    impl: Hubs, cache: PackageCache, hub: Hub, seed: int
) -> None:
    for revision in _hubs.published_blocks(impl, cache, seed):
        _hubs.alter_the_largest(hub, _turned)
        before = gauges.libraries()

        with refuses():
            _hubs.assert_blocks_right(impl, revision, seed)

        found = {path for path, _ in gauges.libraries() - before if "wrapper" in path}
        assert found == set()
