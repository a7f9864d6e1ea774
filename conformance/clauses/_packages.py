"""What chapters PKG and SEC share: packages that were tampered with, and their end.

Every try is in a forked child with a folder for temporary files of its own, and all
tries of a test are in one child: whatever ends it ends the test.
"""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from conformance import archives, gauges
from conformance.clauses._threads import NEAR
from conformance.clauses._unpacking import called, in_child, want
from conformance.models import blocks
from conformance.workbench import attempt, is_refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from conformance.adapter import Packages
    from conformance.archives import Entry


class Tried(NamedTuple):
    """What became of a package: an answer, or the words of a refusal.

    Args:
        value: The answer; None if there is none.
        words: The refusal; None if there is none.
        left: What was in the folder for temporary files afterwards.
        mapped: How many libraries were loaded.
        untouched: Whether the module answers as it did before; of refusals only.
    """

    value: Any
    words: str | None
    left: list[str]
    mapped: int
    untouched: bool


def tried(
    impl: Packages,
    folders: Sequence[Path],
    temporary: Path,
    seed: int,
    lie: Callable[[], object] = lambda: None,
    make: type[blocks.Stack] = blocks.Stack,
) -> list[Tried]:
    """Load, apply and call packages of a Stack, one after the other, in a child.

    Args:
        impl: Who loads them.
        folders: What `save` wrote, or what was made of it.
        temporary: A folder for temporary files, for each package another below it.
        seed: Of the module that they are applied to.
        lie: What the child does first: it may tell of another machine.
        make: The class of that module.
    """
    __tracebackhide__ = True

    def run() -> list[Tried]:
        lie()
        return _all(impl, folders, temporary, seed, make)

    return list(in_child(run, temporary))


def _all(
    impl: Packages,
    folders: Sequence[Path],
    temporary: Path,
    seed: int,
    make: type[blocks.Stack],
) -> list[Tried]:
    found: list[Tried] = []
    for folder in folders:
        module = blocks.seeded(make, seed)
        files, mapped = set(os.listdir(temporary)), gauges.libraries()  # noqa: PTH208
        ended = attempt(partial(_answer, impl, folder, module))
        if ended.error is not None and not is_refusal(ended.error):
            message = f"{folder.name} ended in an accident"
            raise AssertionError(message) from ended.error
        left = sorted(set(os.listdir(temporary)) - files)  # noqa: PTH208
        more = len(gauges.libraries() - mapped)
        untouched = ended.error is None or _is_eager(module, want(seed, make))
        words = None if ended.error is None else str(ended.error)
        found.append(Tried(ended.value, words, left, more, untouched))
    return found


def _answer(impl: Packages, folder: Path, module: torch.nn.Module) -> Any:
    impl.apply(impl.load(folder), module)
    return called(module)


def _is_eager(module: torch.nn.Module, wanted: Any) -> bool:
    """Whether a module is as it was made: it answers, and from its own Python."""
    blocks.entered.clear()
    with torch.no_grad():
        ended = attempt(partial(module, **blocks.call().kwargs))
    if ended.error is not None or not blocks.entered:
        return False
    return bool(ended.value[0].tolist() == wanted)


def assert_right_or_refused(
    found: Iterable[Tried], seed: int, make: type[blocks.Stack] = blocks.Stack
) -> None:
    """Assert that no package was answered wrongly."""
    __tracebackhide__ = True
    wanted = torch.tensor(want(seed, make))
    for number, each in enumerate(found):
        if each.words is None:
            close = torch.allclose(torch.tensor(each.value), wanted, NEAR, NEAR)
            assert close, f"package {number} was answered wrongly"


def assert_right(found: Iterable[Tried], seed: int) -> None:
    """Assert that every package was answered, and rightly."""
    __tracebackhide__ = True
    for number, each in enumerate(found):
        assert each.words is None, f"package {number} was refused: {each.words}"
        assert_right_or_refused([each], seed)


def assert_refused(found: Iterable[Tried], *words: str) -> None:
    """Assert that every package was refused, in words that hold these, in any case."""
    __tracebackhide__ = True
    for number, each in enumerate(found):
        assert each.words is not None, f"package {number} was answered, not refused"
        lacking = [word for word in words if word.lower() not in each.words.lower()]
        assert not lacking, f"{lacking} is not in: {each.words}"


class Tampering:
    """Copies of a package, each with something done to its largest archive."""

    def __init__(self, package: Path, folder: Path) -> None:
        self.package = package
        self.folder = folder
        self._made = 0

    def copy(self) -> Path:
        """Copy the package as it is."""
        self._made += 1
        return shutil.copytree(self.package, self.folder / f"copy-{self._made}")

    def entries(self) -> list[Entry]:
        """Read the members of its archive."""
        return archives.entries(archive(self.package))

    def rewritten(self, members: Iterable[Entry]) -> Path:
        """Copy it with other members in its archive."""
        return self.holding(archives.packed(members))

    def holding(self, data: bytes) -> Path:
        """Copy it with other bytes for an archive."""
        made = self.copy()
        archive(made).write_bytes(data)
        return made


def archive(folder: Path) -> Path:
    """Find the archive of a package: the largest, where it has several."""
    found = archives.find(folder)
    assert found, "the package holds no zip archive"
    return max(found, key=lambda path: path.stat().st_size)


def library(members: Iterable[Entry]) -> Entry:
    """Find the compiled library among members."""
    return next(entry for entry in members if entry.data[:4] == b"\x7fELF")


def flipped(data: bytes, place: float = 0.5) -> bytes:
    """Change one bit, somewhere between the start (0) and the end (1)."""
    if not data:
        return b"\1"
    changed = bytearray(data)
    changed[int(place * (len(data) - 1))] ^= 1
    return bytes(changed)


def ruined(data: bytes) -> bytes:
    """Change what is in the middle, where the code of a library is."""
    start, end = len(data) * 7 // 20, len(data) * 3 // 4
    return data[:start] + bytes(b ^ 0x55 for b in data[start:end]) + data[end:]


def exchanged(members: Iterable[Entry], name: str, data: bytes) -> list[Entry]:
    """Give members with other bytes in one of them."""
    return [m._replace(data=data) if m.name == name else m for m in members]


def edited(text: bytes) -> Iterator[bytes]:
    """Give a JSON document again and again, with one value in it changed each time.

    Of the members of a list only the last is changed.
    """
    try:
        document = json.loads(text)
    except ValueError:
        return
    if isinstance(document, (dict, list)):
        for path in _leaves(document):
            changed = json.loads(text)
            holder: Any = changed
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = _other(holder[path[-1]])
            yield json.dumps(changed).encode()


def _leaves(tree: Any) -> Iterator[list[Any]]:
    if isinstance(tree, list):
        pairs: list[tuple[Any, Any]] = list(enumerate(tree))[-1:]
    elif isinstance(tree, dict):
        pairs = list(tree.items())
    else:
        yield []
        return
    for key, value in pairs:
        for rest in _leaves(value):
            yield [key, *rest]


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return "other" if value is None else f"{value}x"
