"""The pytest plugin: options, collection, isolation, results.

It is loaded by every pytest of an environment, so it imports no torch, and
touches nothing but the tests in `conformance.clauses`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance import (
    adapter_check,
    collecting,
    device,
    gpus,
    hypothesis_profile,
    judging,
    spec,
)
from conformance.imports import lenient
from conformance.isolated import prepare_environment
from conformance.suite import SUITE, Suite

if TYPE_CHECKING:
    from collections.abc import Generator


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options `--aoti-...`."""
    group = parser.getgroup("aoti", "conformance of AOTInductor layers")
    group.addoption(
        "--aoti-impl",
        default="reference",
        metavar="NAME",
        help="who is tested: a short name, or package.module[:object] of an adapter",
    )
    group.addoption(
        "--aoti-report", metavar="FILE", help="write results here, as JSON Lines"
    )
    group.addoption(
        "--aoti-expected",
        metavar="FILE",
        help="known deviations (TOML); by default those that come with the suite",
    )
    group.addoption(
        "--aoti-cache",
        metavar="DIR",
        default=os.environ.get("AOTI_CACHE")
        or str(Path("~/.cache/aoti-conformance").expanduser()),
        help="where compiled packages are kept "
        "(default: $AOTI_CACHE or ~/.cache/aoti-conformance)",
    )
    group.addoption(
        "--aoti-checkpoint",
        metavar="WHAT",
        help="a repository or a folder of real weights",
    )
    group.addoption(
        "--aoti-profile",
        choices=[*spec.PROFILES, "all"],
        default="all",
        help="run the clauses of one profile",
    )
    group.addoption(
        "--aoti-clause",
        action="append",
        default=[],
        metavar="ID",
        help="run the tests of this clause (may be given again)",
    )
    group.addoption(
        "--aoti-device",
        default="cpu",
        metavar="DEVICE",
        help="where modules and inputs live: cpu, cuda, cuda:1 (default: cpu)",
    )
    group.addoption(
        "--aoti-seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of everything random",
    )


# First, because whatever asks for a GPU must find the worker's own.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and the state of this session."""
    given = getattr(config, "workerinput", {})
    if "aoti_gpu" in given:
        callers = given["aoti_gpus"]
        gpus.pin(given["aoti_gpu"], callers)
        own = callers.index(given["aoti_gpu"])
        others = [index for index in range(len(callers)) if index != own]
        locks = [Path(given["aoti_plans"], f"gpu-{n}.lock") for n in (own, *others)]
        workers = given["workercount"]
        among = -(-workers // len(callers))
        gpus.share(among=among, workers=workers, locks=locks)
    for name, meaning in gpus.MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.addinivalue_line(
        "markers", "clause(id, *, deadline_s): the clause of SPEC.md tested"
    )
    device.choose(config.getoption("aoti_device"))
    config.stash[SUITE] = Suite(config)
    config.pluginmanager.register(config.stash[SUITE], "aoti_conformance_suite")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Open the results file, before anything else can take time."""
    session.config.stash[SUITE].open_report()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Import the clause modules under the suite's own names and Hypothesis profile."""
    if not collecting.holds_ours(collector):
        return (yield)
    prepare_environment()
    config = collector.config
    names, profile = collecting.by_our_names(config), hypothesis_profile.loaded(config)
    with names, profile, lenient():
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, items: list[pytest.Item]
) -> None:
    """Check the clause tests, before anybody deselects some of them."""
    if any(collecting.is_ours(item) for item in items):
        session.config.stash[SUITE].collect(session, items)


# Last, and yet before pytest-split's, which is registered later than this.
@pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
def pytest_note_selection(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Keep what the groups of a split are cut from."""
    session.config.stash[SUITE].note_selection(items)


# First, because xdist's worker tells the controller in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Fix the plan: what is left is what will run."""
    session.config.stash[SUITE].plan(session.items)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say who is tested."""
    return config.stash[SUITE].greeting()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Run a clause test in a child of its own."""
    if not collecting.is_ours(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in item.config.stash[SUITE].run_test(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what was raised, while it is an object still."""
    report = yield
    if collecting.is_ours(item):
        adapter = item.config.stash[SUITE].adapter
        judging.note_exception(report, call, lambda: adapter_check.files(adapter))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Call the outcomes by their own names."""
    if getattr(report, "aoti_silent", False):
        return "", "", ""
    told = getattr(report, "aoti", None)
    return judging.WORDS[told["outcome"]] if told else None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the footer, and fail a run whose expectations are stale."""
    session.config.stash[SUITE].finish(session)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the board."""
    terminalreporter.config.stash[SUITE].summarise(terminalreporter)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where to leave its plan, and which GPU is its own."""
    suite = node.config.stash[SUITE]
    node.workerinput["aoti_plans"] = str(suite.plans_folder())
    if names := suite.gpus.names:
        node.workerinput["aoti_gpu"] = suite.gpus.take(node.gateway.id)
        node.workerinput["aoti_gpus"] = names


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Start as many workers as there are GPUs, where clauses run on GPUs."""
    if config.getoption("aoti_device") != "cuda":
        return None
    return len(gpus.visible()) or None  # xdist asks before anything is configured


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """Take over the plan that the first worker left."""
    node.config.stash[SUITE].adopt_plan(node.gateway.id)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what stopped a worker's collection."""
    output = getattr(node, "workeroutput", {})
    suite = node.config.stash[SUITE]
    suite.gpus.give(node.gateway.id)
    # A worker that is killed later tells nothing.
    suite.problem = suite.problem or output.get("aoti_problem", "")
