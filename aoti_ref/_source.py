"""Where a compiled model was fetched from."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """A package on the Hub: what `push_to_hub` returns, and a fetched model carries.

    Args:
        repo_id: The repository, as `publisher/name`.
        revision: The hash of the commit that all of its files are of.
        folder: The package's folder in the repository.
        model: The model that it was compiled for, as its publisher said; or empty.
        model_revision: The revision of that model; or empty.
    """

    repo_id: str
    revision: str
    folder: str
    model: str
    model_revision: str
