"""Neither the order of tests nor their company decides their outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.meta.conftest import outcomes

if TYPE_CHECKING:
    from conformance.meta.conftest import Stage
    from conformance.results import Run

# What a test leaves in its process must not reach the next: `seen` would tell.
CLAUSES = """
seen = []

@clause("CAP-01")
@pytest.mark.parametrize("number", range(6))
def test_one(number):
    seen.append(number)
    assert seen == [number]
    assert number != 2, f"drawn: {random.random()}"
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)

@clause("CAP-02")
def test_two():
    assert not seen
"""


def told(run: Run) -> dict[str, tuple[str, str]]:
    return {result.id: (result.outcome, result.message) for result in run.results}


def test_results_are_the_same_in_any_order_and_alone(stage: Stage) -> None:
    stage.clauses("import random\n" + CLAUSES)

    plain = stage.results()
    mixed = [
        stage.results("--random-order-bucket=global", f"--random-order-seed={seed}")
        for seed in (1, 2, 3)
    ]
    alone = stage.results("--aoti-clause=CAP-01")

    assert outcomes(plain)["test_one[4]"] == "crash"
    assert len({tuple(run.plan) for run in (plain, *mixed)}) == 4
    assert [told(run) for run in mixed] == [told(plain)] * 3
    assert [run.verdicts for run in mixed] == [plain.verdicts] * 3
    of_one = {test: entry for test, entry in told(plain).items() if "one" in test}
    assert told(alone) == of_one
    assert alone.header["cut"] == []
