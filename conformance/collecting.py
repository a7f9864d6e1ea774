"""Which of the collected tests are the suite's, and whether they are in order."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest

from conformance import deviations, spec
from conformance.adapter import Adapter, BadAdapter, load
from conformance.imports import lenient

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from conformance.deviations import Deviation
    from conformance.spec import Clause

CLAUSES = Path(__file__).with_name("clauses")
EXPECTED = Path(__file__).with_name("expected")


NO_ASSERTS = (
    "this Python leaves out `assert` (-O, or PYTHONOPTIMIZE), with which the suite "
    "judges; run it without"
)


class Asked(NamedTuple):
    """What a clause test asks: its clause, by when, and whether no is an answer."""

    clause: Clause
    deadline_s: float
    may_refuse: bool | Literal["setup"]


def is_ours(node: pytest.Item | pytest.Collector) -> bool:
    """Whether `node` is a test, or a module, of the suite's clauses."""
    return isinstance(
        node, (pytest.Function, pytest.Module)
    ) and node.path.is_relative_to(CLAUSES)


def holds_ours(node: pytest.Collector) -> bool:
    """Whether `node` is a module of the suite's clauses, or the folder of them."""
    return is_ours(node) or node.path == CLAUSES


# How the suite's files, functions and classes of tests are named: pytest's own way.
_NAMES = {
    "python_files": "test_*.py",
    "python_functions": "test",
    "python_classes": "Test",
}


@contextlib.contextmanager
def by_our_names(config: pytest.Config) -> Iterator[None]:
    """Collect by the suite's names of tests, whatever those of the project are."""
    before = {option: [*config.getini(option)] for option in _NAMES}
    try:
        for option, name in _NAMES.items():
            config.getini(option)[:] = [name]  # pytest reads the same list
        yield
    finally:
        for option, names in before.items():
            config.getini(option)[:] = names


def take_over(item: pytest.Item) -> None:
    """Take a test of ours out of what the project has set for its own."""
    # What libraries warn of is no verdict on the layer above them.
    item.add_marker(pytest.mark.filterwarnings("default"))
    if item.config.pluginmanager.hasplugin("timeout"):  # of pytest-timeout
        item.add_marker(pytest.mark.timeout(0))  # children have deadlines of their own


def asked_by(item: pytest.Item) -> Asked:
    """Return what `item` asks.

    Raises:
        pytest.UsageError: It has no clause, several, or one that there is not.
    """
    marks = list(item.iter_markers("clause"))
    if len(marks) != 1:
        ids = ", ".join(str(mark.args[0]) for mark in marks if mark.args)
        found = f"{len(marks)} clauses ({ids})" if marks else "no clause"
        raise pytest.UsageError(
            f"{item.nodeid}: a clause test has one clause, this has {found}"
        )
    name = marks[0].args[0] if marks[0].args else "clause without an id"
    if name not in spec.catalogue():
        raise pytest.UsageError(f"{item.nodeid}: SPEC.md has no {name}")
    asked = marks[0].kwargs
    deadline_s = asked.get("deadline_s", spec.DEADLINE_S)
    return Asked(spec.catalogue()[name], deadline_s, asked.get("may_refuse", False))


def adapter(name: str) -> Adapter:
    """Load the adapter that `--aoti-impl` names.

    Raises:
        pytest.UsageError: It cannot be used.
    """
    try:
        with lenient():
            return load(name)
    except BadAdapter as error:
        raise pytest.UsageError(str(error)) from error


def expectations(
    option: str | None, name: str, environment: Mapping[str, Any]
) -> dict[str, Deviation]:
    """Read the known deviations: from the file that was given, or the one for `name`.

    Left out are those whose condition this `environment` does not meet.

    Raises:
        pytest.UsageError: The file cannot be used.
    """
    path = Path(option) if option else EXPECTED / f"{name}.toml"
    if not option and not path.exists():
        return {}
    try:
        return deviations.read(path, spec.catalogue(), environment)
    except deviations.BadDeviations as error:
        raise pytest.UsageError(str(error)) from error


def check_device(name: str) -> None:
    """Check that this machine has the device that tests shall run on.

    Raises:
        pytest.UsageError: It has not.
    """
    if name == "cpu":  # and torch need not be asked
        return
    import torch  # clause tests are there, and have imported it

    try:
        wanted = torch.device(name)
    except RuntimeError as error:
        raise pytest.UsageError(f"--aoti-device: {name!r} is no device") from error
    # Counting asks the driver, and makes no context that children would inherit.
    count = torch.cuda.device_count() if wanted.type == "cuda" else 1
    if wanted.type not in ("cpu", "cuda") or (wanted.index or 0) >= count:
        raise pytest.UsageError(f"--aoti-device: this machine has no {name}")


def check_python() -> None:
    """Check that Python runs `assert`: helpers judge with it, in fresh processes too.

    Raises:
        pytest.UsageError: It was told to leave it out.
    """
    if not __debug__:
        raise pytest.UsageError(NO_ASSERTS)


def check_folders(cache: str) -> None:
    """Check that torch can compile where it will: it puts no quotes around a path.

    A space would fail every compile, and the layer would be blamed.
    """
    folders = {"--aoti-cache": cache, "TMPDIR": tempfile.gettempdir()}
    for name, folder in folders.items():
        path = str(Path(folder).absolute())
        if path.split() != [path]:
            raise pytest.UsageError(
                f"{name}: torch cannot compile in {path!r}, for the space in it; "
                "name another folder"
            )


def is_whole(session: pytest.Session) -> bool:
    """Whether this session collects the whole suite, so that a gap in it would show."""
    option = session.config.option
    narrowed = any(
        getattr(option, name, None)
        for name in ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf")
    )
    named = any(session.isinitpath(path) for path in (CLAUSES, *CLAUSES.parents))
    return named and not narrowed and not session.testsfailed


def check_whole(
    asked: Iterable[tuple[str, Clause]], expected: Mapping[str, Deviation]
) -> None:
    """Check that the whole suite leaves no clause and no expectation without its test.

    Args:
        asked: The name of every clause test, with parameters, and its clause.
        expected: The known deviations by clause.

    Raises:
        pytest.UsageError: It does.
    """
    names: dict[str, set[str]] = {}
    for test, clause in asked:
        names.setdefault(clause.id, set()).add(test)
    untested = [name for name in spec.catalogue() if name not in names]
    if untested:
        raise pytest.UsageError(f"no test for {', '.join(untested)}")
    for entry in expected.values():
        unknown = sorted(set(entry.tests) - names[entry.clause])
        if unknown:
            raise pytest.UsageError(f"{entry.clause} has no test {', '.join(unknown)}")


def chosen(
    items: Sequence[pytest.Item], profile: str, clauses: Sequence[str]
) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Split `items`: those to keep, foreign ones among them, and the others.

    Args:
        items: Everything that was collected.
        profile: The profile that is asked for, or `all`.
        clauses: The ids of the clauses that are asked for; none means every one.

    Raises:
        pytest.UsageError: There is no such clause.
    """
    unknown = sorted(set(clauses) - set(spec.catalogue()))
    if unknown:
        raise pytest.UsageError(f"--aoti-clause: SPEC.md has no {unknown[0]}")
    keep: list[pytest.Item] = []
    leave: list[pytest.Item] = []
    for item in items:
        clause = asked_by(item).clause if is_ours(item) else None
        wanted = clause is None or (
            (profile == "all" or profile in clause.profile)
            and (not clauses or clause.id in clauses)
        )
        (keep if wanted else leave).append(item)
    return keep, leave
