"""What `--aoti-checkpoint` may name; looked at without importing torch."""

from __future__ import annotations

import json
from pathlib import Path


class BadCheckpoint(Exception):
    """What cannot be a checkpoint; the message is one sentence."""


def check(checkpoint: str) -> None:
    """Refuse what cannot be a diffusers checkpoint, before anything is loaded.

    Args:
        checkpoint: A folder, or the name of a repository on the Hub.

    Raises:
        BadCheckpoint: It is a folder that lacks its index or a part that the index
            names, or it is neither a folder nor the name of a repository.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        if checkpoint.count("/") == 1 and checkpoint[0] not in "./~":
            return
        raise BadCheckpoint(f"there is no folder {checkpoint!r}")
    index = folder / "model_index.json"
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadCheckpoint(f"{index} is missing") from None
    except ValueError as error:
        raise BadCheckpoint(f"{index} is no JSON ({error})") from None
    for part, library in parts.items():
        wanted = isinstance(library, list) and library[0] is not None
        if wanted and not (folder / part).is_dir():
            raise BadCheckpoint(
                f"{index} names {part!r}, but {folder / part} is missing"
            )
