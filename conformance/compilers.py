"""Let ccache, where it is installed, keep what the C++ compiler has made.

Clauses about compiling compile anew in every run, and most of that is the C++
compiler's, on sources that it has seen. A layer's own work is done every time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_NAMES = "g++", "c++", "clang++"
# Inductor includes its header precompiled, which ccache takes only when told to.
_SLOPPY = "pch_defines", "time_macros", "include_file_mtime", "include_file_ctime"
# And it compiles in folders whose names are new every time.
_SETTINGS = {
    "CCACHE_SLOPPINESS": ",".join(_SLOPPY),
    "CCACHE_BASEDIR": str(Path(tempfile.gettempdir()).absolute()),
    "CCACHE_NOHASHDIR": "true",
    "CCACHE_MAXSIZE": "2G",
}


def reuse_objects(root: Path) -> bool:
    """Have compilers that are called by their names go through ccache, if there is one.

    A `CXX` with a path in it is left alone, and so are settings of ccache's in the
    environment.

    Args:
        root: The folder of all caches; ccache's comes beside packages.

    Returns:
        Whether it is so now.
    """
    kept = root / "ccache"
    links = str(kept / "bin")
    path = os.environ.get("PATH", os.defpath)
    if links in path.split(os.pathsep):
        return True
    ccache = shutil.which("ccache")
    names = [name for name in _NAMES if shutil.which(name)]
    if ccache is None or not names:
        return False
    try:
        (kept / "bin").mkdir(parents=True, exist_ok=True)
        for name in names:
            with suppress(FileExistsError):
                (kept / "bin" / name).symlink_to(ccache)
    except OSError:
        return False
    for name, value in {**_SETTINGS, "CCACHE_DIR": str(kept)}.items():
        os.environ.setdefault(name, value)
    os.environ["PATH"] = os.pathsep.join((links, path))
    return True
