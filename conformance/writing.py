"""Files that are written whole, or stay as they were."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from conformance.lines import writable

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """Give the file to write to, which takes the place of `path` at the end.

    A link stays a link, to what is written. What is there and is no regular file, a
    pipe as `/dev/stdout`, is written to itself.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    real = path.resolve()
    part = real.with_name(f"{real.name}.{os.getpid()}.part")
    try:
        yield part
        if real.exists():
            shutil.copymode(real, part)
        part.replace(real)
    finally:
        part.unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    """Write `text`, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(path) as target:
        target.write_text(writable(text), encoding="utf-8")
