"""What a Hub on loopback keeps: repositories, and how it lists them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

_LARGE_BYTES = 64 * 1024  # files from here on go through LFS, as on the Hub


class Missing(Exception):
    """What was asked for is not there; the first argument is the Hub's code for it."""


@dataclass
class Repository:
    """Commits, oldest first, each with all of its files, and branches."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit with these files on `branch`."""
        parts = [f"{len(self.commits)}".encode()]
        parts += [name.encode() + data for name, data in sorted(files.items())]
        sha = hashlib.sha1(b"".join(parts)).hexdigest()  # noqa: S324  # as git's
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def at(self, revision: str) -> str:
        """Find the commit of a branch, or of a hash."""
        sha = self.branches.get(revision, revision)
        if sha not in self.commits:
            raise Missing("RevisionNotFound")
        return sha

    def head(self) -> dict[str, bytes]:
        """Give the files at the head of `main`."""
        return self.commits[self.branches["main"]]


def mode(file: dict[str, Any]) -> dict[str, Any]:
    """Say how the client is to upload a file."""
    way = "lfs" if file["size"] >= _LARGE_BYTES else "regular"
    return {"path": file["path"], "uploadMode": way, "shouldIgnore": False}


def tree(files: dict[str, bytes], below: str) -> list[dict[str, Any]]:
    """List files, and the folders that they are in."""
    inside = {n: d for n, d in files.items() if not below or n.startswith(f"{below}/")}
    folders = {name.rpartition("/")[0] for name in inside} - {"", below}
    found: list[dict[str, Any]] = [
        {"type": "directory", "path": folder, "oid": folder, "size": 0}
        for folder in sorted(folders)
    ]
    for name, data in sorted(inside.items()):
        oid = hashlib.sha256(data).hexdigest()
        found.append({"type": "file", "path": name, "oid": oid, "size": len(data)})
    return found
