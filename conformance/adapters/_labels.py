"""What torch writes into an archive about its making, for adapters of its format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from conformance import archives
from conformance.adapter import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def relabel(
    folder: Path,
    *,
    compute_capability: str | None = None,
    newer_format: bool = False,
    ops: Sequence[str] = (),
) -> None:
    """Rewrite the archives in a folder; `Labels.relabel` says how."""
    if ops:
        raise Unsupported("torch's archives do not say which operators they need")
    for path in archives.find(folder):
        entries = [
            entry._replace(data=_relabelled(entry, compute_capability))
            if not newer_format
            else _aged(entry)
            for entry in archives.entries(path)
        ]
        archives.write(path, entries)


def _relabelled(entry: archives.Entry, compute_capability: str | None) -> bytes:
    if entry.name.endswith("_metadata.json") and compute_capability:
        said = json.loads(entry.data)
        said["AOTI_COMPUTE_CAPABILITY"] = compute_capability
        return json.dumps(said).encode()
    return entry.data


def _aged(entry: archives.Entry) -> archives.Entry:
    version = entry.name.endswith("/archive_version")
    return entry._replace(data=b"99") if version else entry
