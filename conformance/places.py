"""Take the places of one machine out of text that others will read."""

from __future__ import annotations

import functools
import re
import site
import sysconfig
import tempfile
from pathlib import Path


@functools.cache
def _known() -> list[tuple[re.Pattern[str], str]]:
    """List the folders that give a machine away, and what to write for each."""
    libraries = {*sysconfig.get_paths().values(), *site.getsitepackages()}
    libraries.add(site.getusersitepackages())
    found = dict.fromkeys(libraries, "")
    found |= {str(Path.cwd()): "", tempfile.gettempdir(): "$TMPDIR/"}
    found[str(Path.home())] = "~/"
    real = {str(Path(folder).resolve()): name for folder, name in found.items()}
    longest = sorted((real | found).items(), key=lambda pair: -len(pair[0]))
    return [
        # pytest puts an ellipsis in the place of what it leaves out.
        (re.compile(rf"(?<!\w)(?<![^.]\.){re.escape(folder)}/"), name)
        for folder, name in longest
        if len(Path(folder).parts) > 1  # not the root
    ]


# Paths that are left; what is in these folders is the same on many machines.
_LONG = re.compile(
    r"(?<![\w.$~/])(?!/(?:proc|dev|usr|lib|tmp)/)(?:/[\w.+@-]+){2,}(?=/[\w.+@-])"
)


def without_places(text: str) -> str:
    """Write paths as others have them too: those of a library from its package on.

    Of other paths the last name is left, unless they are short or the system's.
    """
    for folder, name in _known():
        text = folder.sub(name, text)
    return _LONG.sub("...", text)
