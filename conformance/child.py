"""Run one test in a forked child, and bring its reports home."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from functools import partial
from typing import TYPE_CHECKING, Any

from _pytest.runner import SetupState, runtestprotocol

from conformance import hypothesis_profile, isolated, judging

if TYPE_CHECKING:
    import pytest

    from conformance.isolated import Ending


def run_isolated(
    item: pytest.Item, *, deadline_s: float, seed: int
) -> tuple[list[pytest.TestReport], Ending]:
    """Run setup, call and teardown of `item` in a child; there is a report at least.

    Nothing of it happens in this process: fixtures of every scope are made and
    unmade in the child, so what tests share lives on the disk. Its temporary files
    are in a folder of its own, which goes with it: of a child that dies, torch's
    loader leaves what it unpacked, up to 20 MB each time.
    """
    config = item.config
    # Else every child would number a folder of its own.
    factory = getattr(config, "_tmp_path_factory", None)
    if factory is not None:
        factory.getbasetemp()

    def protocol(temporary: str) -> list[dict[str, Any]]:
        os.environ["TMPDIR"] = tempfile.tempdir = temporary
        # Fixtures of other tests in this session are the parent's to tear down.
        item.session._setupstate = SetupState()  # noqa: SLF001
        hypothesis_profile.sow(getattr(item, "obj", None), seed)
        random.seed(seed)
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(seed)
        to_plain = config.hook.pytest_report_to_serializable
        reports = runtestprotocol(item, log=False, nextitem=None)
        return [to_plain(config=config, report=report) for report in reports]

    with tempfile.TemporaryDirectory(
        prefix="aoti-", ignore_cleanup_errors=True
    ) as folder:
        test = partial(protocol, folder)
        ending = isolated.run_forked(test, deadline_s=deadline_s)
    if ending.kind != "answer":
        return [judging.from_ending(item, ending, _left_over(config))], ending
    from_plain = config.hook.pytest_report_from_serializable
    return [from_plain(config=config, data=data) for data in ending.answer], ending


def _left_over(config: pytest.Config) -> tuple[str, str]:
    """What a child that died had printed: it is in the file shared with us."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is None or not capture.is_globally_capturing():
        return "", ""
    out, err = capture.read_global_capture()
    return str(out), str(err)
