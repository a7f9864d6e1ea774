"""Run something in a Python that has imported nothing yet."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAIN = """
import json, sys
source, target = sys.argv[1:]
with open(source, encoding="utf-8") as file:
    task = json.load(file)
args = task["args"]
if task["function"]:
    import importlib
    module, _, name = task["function"].partition(":")
    result = getattr(importlib.import_module(module), name)(*args)
else:
    scope = {"__name__": "__main__", "args": args}
    exec(compile(task["code"], "<fresh>", "exec"), scope)
    result = scope.get("result")
with open(target, "w", encoding="utf-8") as file:
    json.dump(result, file)
"""

_TAIL_CHARACTERS = 2000


@dataclass(frozen=True)
class Completed:
    """What a fresh Python left behind: its result, and what it printed."""

    value: Any
    stdout: str
    stderr: str
    seconds: float


class Died(Exception):
    """A fresh Python ended without a result.

    Args:
        how: What ended it: `SIGSEGV`, `exit code 1`, `still running after 60 s`.
        stderr: What it printed there; the end of it is part of the message.

    >>> print(Died("SIGSEGV", "Segmentation fault"))
    a fresh Python ended without a result: SIGSEGV
    Segmentation fault
    """

    def __init__(self, how: str, stderr: str) -> None:
        super().__init__(how, stderr)
        self.how = how
        self.stderr = stderr

    def __str__(self) -> str:
        head = f"a fresh Python ended without a result: {self.how}"
        return f"{head}\n{self.stderr.strip()[-_TAIL_CHARACTERS:]}".rstrip()


def fresh_python(
    task: str,
    *args: Any,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120,
    cwd: Path | str | None = None,
) -> Completed:
    """Run `task` in a new interpreter and return what it made.

    Args:
        task: `package.module:function`, called with `args`; or source code, with
            `args` in its scope, that leaves its answer in `result`.
        args: Arguments, and the answer, are whatever JSON can say.
        env: Variables to set on top of this process's own.
        timeout_s: It is killed after so many seconds, with its process group.
        cwd: Where it runs; here, unless given.

    Raises:
        Died: It was ended by a signal or its deadline, or raised.
    """
    function = task if _is_path(task) else ""
    # What can be imported here can be imported there.
    paths = os.pathsep.join(os.path.realpath(path) for path in sys.path)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "task.json"), Path(folder, "result.json")
        source.write_text(
            json.dumps({"function": function, "code": task, "args": args}),
            encoding="utf-8",
        )
        process = subprocess.Popen(  # noqa: S603
            [
                sys.executable,
                "-X",
                "faulthandler",
                "-c",
                _MAIN,
                str(source),
                str(target),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={
                **os.environ,
                "PYTHONPATH": paths,
                "PYTHONWARNINGS": "",
                **(env or {}),
            },
            cwd=cwd,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _kill_group(process.pid)
            stdout, stderr = process.communicate()
            raise Died(f"still running after {timeout_s:g} s", stderr) from None
        finally:
            _kill_group(process.pid)
        if process.returncode < 0:
            raise Died(signal.Signals(-process.returncode).name, stderr)
        if process.returncode or not target.exists():
            raise Died(f"exit code {process.returncode}", stderr)
        value = json.loads(target.read_text(encoding="utf-8"))
    return Completed(value, stdout, stderr, time.monotonic() - began)


def _is_path(task: str) -> bool:
    module, colon, name = task.partition(":")
    return (
        bool(colon) and name.isidentifier() and module.replace(".", "a").isidentifier()
    )


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
