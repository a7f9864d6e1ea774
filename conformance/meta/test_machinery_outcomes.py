"""Every outcome, from a test that earns it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from conformance.meta.conftest import outcomes

if TYPE_CHECKING:
    from conformance.meta.conftest import Stage

EVERY_OUTCOME = """
from conformance.fixtures import impl, seed

@clause("CAP-01")
def test_passes(impl, seed, tmp_path):
    assert (impl.info.name, seed, tmp_path.is_dir()) == ("small", 0, True)

@clause("CAP-01")
def test_fails():
    assert 1 == 2, "the reason"

@pytest.fixture
def broken():
    raise ValueError("no such thing")

@clause("CAP-01")
def test_has_an_error(broken): ...

@clause("CAP-01")
def test_crashes():
    print("the last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

@clause("CAP-01")
def test_leaves():
    os._exit(3)

@clause("CAP-01", deadline_s=0.5)
def test_hangs():
    time.sleep(60)

@clause("CAP-01")
def test_is_skipped():
    pytest.skip("no mood")

@pytest.mark.xfail(reason="in secret")
@clause("CAP-01")
def test_is_marked():
    assert False

@clause("CAP-01")
def test_is_blocked():
    blocked("no GPU here")

@clause("CAP-01")
def test_is_not_supported():
    raise Unsupported("no such verb")

@clause("CAP-02")
def test_needs_ranges():
    raise AssertionError("never run")
"""


def test_every_outcome_is_told_from_the_others(stage: Stage) -> None:
    stage.clauses(EVERY_OUTCOME)

    shown = stage.run("--aoti-report=out.jsonl", "-v")
    run = stage.results("-q")

    assert outcomes(run) == {
        "test_passes": "pass",
        "test_fails": "fail",
        "test_has_an_error": "error",
        "test_crashes": "crash",
        "test_leaves": "crash",
        "test_hangs": "timeout",
        "test_is_skipped": "fail",
        "test_is_marked": "fail",
        "test_is_blocked": "blocked",
        "test_is_not_supported": "unsupported",
        "test_needs_ranges": "unsupported",
    }
    messages = {result.id.partition("::")[2]: result.message for result in run.results}
    assert messages["test_fails"].startswith("AssertionError: the reason")
    assert messages["test_crashes"].startswith("ended by SIGSEGV")
    assert "in test_crashes" in messages["test_crashes"]
    assert messages["test_hangs"].startswith("still running after 0.5 s")
    assert "in test_hangs" in messages["test_hangs"]
    assert messages["test_is_skipped"] == "declared means a skip is a failure: no mood"
    assert messages["test_is_blocked"] == "no GPU here"
    assert run.complete
    assert run.footer is not None
    assert run.footer["peak_rss_mib"] > 1
    assert shown.ret == pytest.ExitCode.TESTS_FAILED
    shown.stdout.fnmatch_lines(
        [
            "aoti-conformance: small 1.0 [[]core only[]], torch *, seed 0",
            "*test_crashes CRASH*",
            "*test_hangs TIMEOUT*",
            "*test_is_blocked BLOCKED*",
            "*test_needs_ranges UNSUPPORTED*",
            "the last words",
            "*= conformance =*",
            "core * not conformant (*2 crash*",
            "dynamic * not claimed",
            "results: out.jsonl",
        ]
    )


def test_run_of_passes_and_unsupported_exits_with_0(stage: Stage) -> None:
    stage.clauses("""
        @clause("CAP-01")
        def test_one(): ...

        @clause("CAP-02")
        def test_two(): ...
    """)

    result = stage.run()

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        ["core * conformant", "all * not conformant (1 unsupported)"]
    )


def test_unsupported_is_a_failure_where_the_capability_is_declared(
    stage: Stage,
) -> None:
    stage.write(
        "able_adapter.py",
        "from small_adapter import *\ncapabilities = frozenset({'dynamic'})\n",
    )
    stage.clauses("""
        @clause("CAP-01")
        def test_one(): ...

        @clause("CAP-02")
        def test_two():
            raise Unsupported("after all")
    """)

    result = stage.run(impl="able_adapter")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*declares dynamic, yet raised Unsupported: after all*"]
    )


def test_child_leaves_no_process_behind(stage: Stage) -> None:
    stage.clauses("""
        @clause("CAP-01")
        def test_one():
            sleep = "import time; time.sleep(60)"
            child = subprocess.Popen([sys.executable, "-c", sleep])
            with open("pid", "w") as file:
                file.write(str(child.pid))

        @clause("CAP-02")
        def test_two(): ...
    """)

    stage.run()

    pid = int((stage.pytester.path / "pid").read_text())
    deadline = time.monotonic() + 10
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_properties_follow_from_the_seed(stage: Stage) -> None:
    stage.clauses("""
        from hypothesis import given, settings, strategies as st

        @clause("CAP-01")
        @given(number=st.integers())
        def test_one(number):
            with open("drawn", "a") as file:
                file.write(f"{number} ")

        @clause("CAP-02")
        def test_two():
            assert settings().max_examples == 100
    """)
    drawn = stage.pytester.path / "drawn"

    lists = []
    for seed in (1, 1, 2):
        stage.run(f"--aoti-seed={seed}")
        lists.append(drawn.read_text().split())
        drawn.unlink()

    assert lists[0] == lists[1] != lists[2]
    assert len(lists[0]) == 25


def test_a_refusal_is_a_pass_where_the_clause_lets_it(stage: Stage) -> None:
    stage.clauses("""
        from conformance.adapter import Refused

        @pytest.fixture
        def refusing():
            raise Refused("not this one")

        @clause("CAP-01", may_refuse=True)
        def test_in_setup(refusing): ...

        @clause("CAP-01", may_refuse=True)
        def test_in_call():
            raise Refused("nor this one")

        class NotYet(Refused): ...

        @clause("CAP-01", may_refuse=True)
        def test_of_an_adapters_own():
            raise NotYet("later")

        @clause("CAP-01", may_refuse="setup")
        def test_in_setup_alone(refusing): ...

        @clause("CAP-01", may_refuse="setup")
        def test_in_call_and_not_in_setup():
            raise Refused("too late")

        @clause("CAP-01", may_refuse=True)
        def test_of_another_kind():
            raise ValueError("an accident")

        @clause("CAP-01")
        def test_that_wants_an_answer():
            raise Refused("not this one")

        @clause("CAP-02")
        def test_beside(): ...
    """)

    run = stage.results()

    assert outcomes(run) == {
        "test_in_setup": "pass",
        "test_in_call": "pass",
        "test_of_an_adapters_own": "pass",
        "test_in_setup_alone": "pass",
        "test_in_call_and_not_in_setup": "fail",
        "test_of_another_kind": "fail",
        "test_that_wants_an_answer": "fail",
        "test_beside": "unsupported",
    }
    told = {result.id.partition("::")[2]: result.message for result in run.results}
    assert "not this one" in told["test_in_setup"]
