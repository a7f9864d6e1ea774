"""Children that are forked, and fresh ones: how they end, and what is told of it."""

from __future__ import annotations

import signal

import pytest

from conformance.isolated import Died, fresh_python, run_forked


def test_forked_function_brings_its_answer_home() -> None:
    assert run_forked(lambda: "x" * 200_000, deadline_s=30).answer == "x" * 200_000


def test_forked_function_that_raises_is_told_in_full() -> None:
    ending = run_forked(lambda: 1 // 0, deadline_s=30)

    assert ending.kind == "broken"
    assert "ZeroDivisionError" in ending.text


def test_fresh_python_calls_a_function() -> None:
    assert fresh_python("operator:add", 1, 2).value == 3


def test_fresh_python_runs_code() -> None:
    done = fresh_python("print('hi'); result = [*args, len(args)]", 5)

    assert (done.value, done.stdout) == ([5, 1], "hi\n")


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})", "SIGSEGV"),
        ("raise ValueError('no')", "exit code 1"),
        ("import time; time.sleep(60)", "still running after 1 s"),
    ],
    ids=["signal", "raises", "hangs"],
)
def test_fresh_python_that_dies_says_how(code: str, how: str) -> None:
    with pytest.raises(Died) as caught:
        fresh_python(code, timeout_s=1)

    assert caught.value.how == how


def test_torch_reads_its_environment_after_it_was_prepared() -> None:
    name = "AOT_INDUCTOR_COMPILE_WRAPPER_OPT_LEVEL"
    code = (
        f"import os; os.environ.pop({name!r}, None)\n"
        "import conformance.clauses.conftest\n"
        "import torch._inductor.config as found\n"
        "result = found.aot_inductor.compile_wrapper_opt_level"
    )

    assert fresh_python(code, timeout_s=120).value == "Og"
