"""What a test's child leaves behind, and whose an error in a fixture is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformance.meta.conftest import outcomes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from conformance.meta.conftest import Stage


def test_what_a_dying_test_leaves_in_temporary_folders_goes_with_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage.clauses("""
    import tempfile

    @clause("CAP-01")
    @pytest.mark.parametrize("status", [0, 3])
    def test_leaves_a_folder(status):
        made = tempfile.mkdtemp()
        assert made.startswith(os.environ["TMPDIR"])
        if status:
            os._exit(status)

    @clause("CAP-02")
    def test_needs_ranges(): ...
    """)
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    run = stage.results(f"--basetemp={stage.pytester.path / 'base'}")

    assert outcomes(run) == {
        "test_leaves_a_folder[0]": "pass",
        "test_leaves_a_folder[3]": "crash",
        "test_needs_ranges": "unsupported",
    }
    assert list(tmp_path.iterdir()) == []


def test_what_a_verb_raises_in_a_fixture_is_the_implementations(stage: Stage) -> None:
    adapter = stage.pytester.path / "small_adapter.py"
    broken = "def compile(*args):\n    raise ValueError('a bug')\n"
    adapter.write_text(adapter.read_text().replace("def compile(*args): ...", broken))
    stage.clauses("""
    from conformance.fixtures import impl

    @pytest.fixture
    def compiled(impl):
        return impl.compile(None)

    @pytest.fixture
    def broken():
        raise ValueError("a bug, too")

    @clause("CAP-01")
    def test_wants_a_compiled_model(compiled): ...

    @clause("CAP-01")
    def test_wants_what_the_suite_cannot_make(broken): ...

    @clause("CAP-02")
    def test_needs_ranges(): ...
    """)

    assert outcomes(stage.results()) == {
        "test_wants_a_compiled_model": "fail",
        "test_wants_what_the_suite_cannot_make": "error",
        "test_needs_ranges": "unsupported",
    }
