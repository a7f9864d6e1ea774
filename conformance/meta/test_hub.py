"""What the reference takes from the Hub, and says of it, beyond what clauses ask."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest

import aoti_ref
from aoti_ref import _host, _kernels, _package, _program
from conformance import isolated
from conformance.clauses import _hubs
from conformance.loopback import Hub
from conformance.models import blocks, kernels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOTE = "aoti_ref_hub.json"
TRUST = ("acme", "tiny-kernels")


@pytest.fixture(scope="module")
def described() -> Any:
    """What a manifest says of a Stack; nothing is compiled here."""
    call = aoti_ref.Call((), blocks.call().kwargs)
    program = aoti_ref.export(blocks.seeded(blocks.Stack), call)
    return _program.describe_program(program)[1]


@pytest.fixture
def make(described: Any, tmp_path: Path) -> Callable[..., aoti_ref.CompiledModel]:
    """Make a package whose library is none."""

    def made(
        kernel: aoti_ref.Kernel | None = None, **facts: Any
    ) -> aoti_ref.CompiledModel:
        library = tmp_path / "a.wrapper.so"
        library.write_text("no library")
        needed = [kernel] if kernel else []
        graph = described._replace(ops=[op for each in needed for op in each.ops])
        facts = {"options": {}, "kernels": needed, **facts}
        return aoti_ref.CompiledModel(_package.build([library], graph, **facts))

    return made


def at_a_hub(folder: Path, body: Callable[[Hub], object]) -> None:
    """Call `body` in a child whose client talks to a Hub of its own."""

    def run() -> None:
        with Hub() as hub:
            _hubs.connect(hub.url, folder)
            body(hub)

    ending = isolated.run_forked(run, deadline_s=60)
    assert ending.kind == "answer", ending.text


def on(hub: Hub, folder: Path) -> aoti_ref.Kernel:
    """Put the kernel on the Hub, and say which it is."""
    commit = hub.make(kernels.REPOSITORY, "kernels").commit(kernels.files())
    digest = aoti_ref.kernel_revision(kernels.write(folder / "of-the-build"))
    return aoti_ref.Kernel(kernels.REPOSITORY, commit, digest, (kernels.OPERATOR,))


def renoted(hub: Hub, repo_id: str, **changes: Any) -> str:
    """Change the note of the one package of a repository, in a new commit."""
    files = hub[repo_id].head()
    name = next(each for each in files if each.endswith(NOTE))
    note = json.loads(files[name]) | changes
    return hub[repo_id].commit({**files, name: json.dumps(note).encode()})


def test_kernels_come_through_the_callers_cache_and_token(
    make: Any, tmp_path: Path
) -> None:
    def body(hub: Hub) -> None:
        pushed = aoti_ref.push_to_hub(make(on(hub, tmp_path)), "acme/kern")
        default = _hubs.connect(hub.url, tmp_path / "another")
        hub.requests.clear()
        said: dict[str, Any] = {"revision": pushed.revision, "token": "hf_mine"}
        said["cache_dir"] = tmp_path / "mine"

        aoti_ref.load_from_hub("acme/kern", trust=iter(TRUST), **said)

        assert not default.exists()
        assert {request.token for request in hub.requests} == {"hf_mine"}
        hub.close()
        again: Any = aoti_ref.load_from_hub("acme/kern", trust=iter(TRUST), **said)
        _kernels.provide("Stack", again.package.ops, again.package.kernels)
        assert kernels.NAMESPACE in sys.modules

    at_a_hub(tmp_path, body)


def test_a_kernel_that_is_not_cached_is_not_asked_for(
    make: Any, tmp_path: Path
) -> None:
    def body(hub: Hub) -> None:
        pushed = aoti_ref.push_to_hub(make(on(hub, tmp_path)), "acme/kern")
        said: dict[str, Any] = {"revision": pushed.revision, "trust": TRUST}
        repository = hub.repositories.pop(f"kernels/{kernels.REPOSITORY}")
        with pytest.raises(aoti_ref.UnusableKernel):
            aoti_ref.load_from_hub("acme/kern", **said)
        hub.repositories[f"kernels/{kernels.REPOSITORY}"] = repository
        hub.requests.clear()

        with pytest.raises(aoti_ref.NotCached, match=kernels.REPOSITORY):
            aoti_ref.load_from_hub("acme/kern", **said, local_files_only=True)

        assert hub.requests == []

    at_a_hub(tmp_path, body)


def test_a_note_that_hides_a_kernel_is_refused(make: Any, tmp_path: Path) -> None:
    def body(hub: Hub) -> None:
        aoti_ref.push_to_hub(make(on(hub, tmp_path)), "acme/kern")
        revision = renoted(hub, "acme/kern", kernels=[])

        with pytest.raises(aoti_ref.BrokenPackage, match="other kernels"):
            aoti_ref.load_from_hub("acme/kern", revision=revision, trust=TRUST)

    at_a_hub(tmp_path, body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernels", [{"repo": "x"}]),
        ("kernels", None),
        ("libraries", None),
        ("contracts", {"": [1]}),
        ("figures", []),
        ("variant", None),
        ("sha256", 5),
    ],
)
def test_a_note_of_other_kinds_is_no_note(
    make: Any, tmp_path: Path, name: str, value: Any
) -> None:
    def body(hub: Hub) -> None:
        aoti_ref.push_to_hub(make(), "acme/stack")
        revision = renoted(hub, "acme/stack", **{name: value})

        with pytest.raises(aoti_ref.BrokenPackage, match=f"torch.*{NOTE}.*{name}"):
            aoti_ref.load_from_hub("acme/stack", revision=revision, trust="acme")
        with pytest.raises(aoti_ref.BrokenPackage, match=f"torch.*{NOTE}.*{name}"):
            aoti_ref.push_to_hub(make(), "acme/stack", variant="another")

    at_a_hub(tmp_path, body)


def test_a_package_of_a_newer_format_harms_no_other(make: Any, tmp_path: Path) -> None:
    def body(hub: Hub) -> None:
        aoti_ref.push_to_hub(make(), "acme/stack")
        newer = {"newer-one/" + NOTE: json.dumps({"format": "aoti_ref.hub/9"}).encode()}
        hub["acme/stack"].commit({**hub["acme/stack"].head(), **newer})

        pushed = aoti_ref.push_to_hub(make(), "acme/stack", variant="fast")
        said: dict[str, Any] = {"revision": pushed.revision, "trust": "acme"}
        aoti_ref.load_from_hub("acme/stack", variant="fast", **said)
        with pytest.raises(aoti_ref.NoSuchVariant, match="newer-one") as refusal:
            aoti_ref.load_from_hub("acme/stack", variant="slow", **said)

        assert "newer-one" not in refusal.value.present
        head = hub["acme/stack"].head()
        assert "newer-one/" + NOTE in head
        assert b"aoti_ref.hub/9" in head["README.md"]

    at_a_hub(tmp_path, body)


def test_arguments_that_say_too_little_are_named(make: Any, tmp_path: Path) -> None:
    nothing: Any = None

    def body(_hub: Hub) -> None:
        with pytest.raises(TypeError, match="variant"):
            aoti_ref.push_to_hub(make(), "acme/stack", variant=nothing)
        with pytest.raises(ValueError, match="model_revision"):
            aoti_ref.push_to_hub(
                make(source={"repo": "a/b", "revision": "r1"}),
                "acme/stack",
                model_revision="r2",
            )
        pushed = aoti_ref.push_to_hub(make(source={"repo": "a/b"}), "acme/stack")
        assert (pushed.model, pushed.model_revision) == ("a/b", "")

    at_a_hub(tmp_path, body)


def test_a_source_without_a_revision_is_refused() -> None:
    call = aoti_ref.Call((), blocks.call().kwargs)
    program = aoti_ref.export(blocks.seeded(blocks.Stack), call)

    with pytest.raises(ValueError, match="revision"):
        aoti_ref.compile(program, source={"repo": "a/b"})


def test_a_push_that_fails_says_what_it_left(make: Any, tmp_path: Path) -> None:
    def body(hub: Hub) -> None:
        hub.commits_left = 0
        with pytest.raises(aoti_ref.TransferFailed, match="a repository that was made"):
            aoti_ref.push_to_hub(make(), "acme/fresh")
        _hubs.connect(hub.url, tmp_path, offline=True)
        hub.requests.clear()
        with pytest.raises(aoti_ref.TransferFailed, match="HF_HUB_OFFLINE"):
            aoti_ref.push_to_hub(make(), "acme/fresh")
        assert hub.requests == []

    at_a_hub(tmp_path, body)


def test_a_card_tells_what_a_package_was_made_with(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"torch": "2.13.0", "cuda": None, "python": "3.10.1", "diffusers": "0.1.2"}
    monkeypatch.setattr(_host, "built_with", lambda: made)
    compiled = make()

    def body(hub: Hub) -> None:
        aoti_ref.push_to_hub(compiled, "acme/stack")
        card = hub["acme/stack"].head()["README.md"].decode()
        assert "| made with | torch 2.13.0, python 3.10.1, diffusers 0.1.2 |" in card

    at_a_hub(tmp_path, body)


def test_the_loopback_answers_what_it_does_not_know(tmp_path: Path) -> None:
    def body(hub: Hub) -> None:
        asking = HTTPConnection(hub.url.removeprefix("http://"), timeout=10)
        asking.request("GET", "/api/agent-harnesses")
        assert asking.getresponse().status == HTTPStatus.NOT_FOUND

    at_a_hub(tmp_path, body)
