"""What is left of the paths that a message names."""

from __future__ import annotations

import sys

import pytest

from conformance.places import without_places


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/some/cache/of/somebody/package.so", ".../package.so"),
        ("/proc/self/fd/7", "/proc/self/fd/7"),
        ("/short/one", "/short/one"),
        ("a/relative/path/of/four", "a/relative/path/of/four"),
        ("https://example.org/a/b/c", "https://example.org/a/b/c"),
    ],
)
def test_of_a_long_path_the_name_is_left(path: str, written: str) -> None:
    assert without_places(f"{path}: gone") == f"{written}: gone"


@pytest.mark.skipif(sys.prefix == "/usr", reason="/usr is the same everywhere")
def test_a_folder_after_an_ellipsis_is_taken_out_too() -> None:
    assert without_places(f"{{'a':...{sys.prefix}/'}}") == "{'a':...'}"
