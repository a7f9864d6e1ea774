"""What can go wrong with a task in a child, and who says so.

    AotiError
    ├── CudaInParent            task: the process that forks has started CUDA
    ├── NotSendable             task: an argument or a result cannot be pickled
    ├── WorkerDied              task: its process ended without an answer
    ├── WorkerTimedOut          task: it took longer than its duration
    ├── TaskFailed              task: it raised what cannot be pickled
    └── ChildTraceback          task: the cause of what a function raised in a child

They pickle, as all errors of the reference do.
"""

from __future__ import annotations

from aoti_ref._errors import AotiError


class CudaInParent(AotiError):
    """A process that has started CUDA cannot fork one that uses it.

    >>> print(CudaInParent("paint", "app.py:7: pipe.to('cuda')"))
    paint: this process has started CUDA, and no forked child can use it
    It was started at app.py:7: pipe.to('cuda')
    Do in the task all that needs the GPU.
    """

    def __init__(self, task: str, trigger: str) -> None:
        super().__init__(task, trigger)
        self.task = task
        self.trigger = trigger

    def __str__(self) -> str:
        head = "this process has started CUDA, and no forked child can use it"
        where = f"It was started at {self.trigger}\n" if self.trigger else ""
        return f"{self.task}: {head}\n{where}Do in the task all that needs the GPU."


class NotSendable(AotiError):
    """An argument, an item or a result of a task cannot go through a pipe.

    >>> print(NotSendable("paint", "result", "TypeError: cannot pickle a lock"))
    paint: its result cannot be sent (TypeError: cannot pickle a lock)
    """

    def __init__(self, task: str, what: str, reason: str) -> None:
        super().__init__(task, what, reason)
        self.task = task
        self.what = what
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.task}: its {self.what} cannot be sent ({self.reason})"


class WorkerDied(AotiError):
    """The child that ran a task ended before it had answered.

    >>> print(WorkerDied("paint", "was ended by SIGKILL"))
    paint: the child that ran it was ended by SIGKILL
    """

    def __init__(self, task: str, how: str) -> None:
        super().__init__(task, how)
        self.task = task
        self.how = how

    def __str__(self) -> str:
        return f"{self.task}: the child that ran it {self.how}"


class WorkerTimedOut(AotiError):
    """A task took longer than it was allowed to, and its child was killed.

    >>> print(WorkerTimedOut("paint", 60.0))
    paint: killed, as it took longer than its duration of 60 s
    """

    def __init__(self, task: str, duration_s: float) -> None:
        super().__init__(task, duration_s)
        self.task = task
        self.duration_s = duration_s

    def __str__(self) -> str:
        limit = f"{self.duration_s:g} s"
        return f"{self.task}: killed, as it took longer than its duration of {limit}"


class TaskFailed(AotiError):
    r"""A task raised an exception that cannot be pickled; its words are here.

    >>> print(TaskFailed("paint", "Strange", "Traceback ...\nStrange: no"))
    paint raised Strange, which cannot be pickled
    Traceback ...
    Strange: no
    """

    def __init__(self, task: str, kind: str, text: str) -> None:
        super().__init__(task, kind, text)
        self.task = task
        self.kind = kind
        self.text = text

    def __str__(self) -> str:
        head = f"{self.task} raised {self.kind}, which cannot be pickled"
        return f"{head}\n{self.text.rstrip()}"


class ChildTraceback(AotiError):
    """The traceback of an exception in the child, as its cause in the parent."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"in the child\n{self.text.rstrip()}"
