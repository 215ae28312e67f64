"""How a request to a worker ends that brings neither an answer nor a refusal."""

from __future__ import annotations


class WorkerHungError(Exception):
    """No answer within the deadline.

    ``has_waited``: it did not compute, so that nothing says that what it was asked is to blame.
    ``was_stopped``: by a signal.
    """

    def __init__(self, reason: str, *, has_waited: bool = False, was_stopped: bool = False) -> None:
        super().__init__(reason)
        self.has_waited = has_waited
        self.was_stopped = was_stopped


class WorkerDiedError(Exception):
    """The connection broke. ``was_killed``: by SIGKILL, which is no fault of the request.

    ``was_asked``: it may have begun with what it was asked.
    """

    def __init__(self, reason: str, *, was_asked: bool = True) -> None:
        super().__init__(reason)
        self.was_killed = reason.endswith("SIGKILL")
        self.was_asked = was_asked


class WorkerLiedError(WorkerDiedError):
    """What came is no answer to what was asked: whoever has taken the worker over sent it."""


class FilesNeededError(Exception):
    """The answer needs files that the worker may not read yet."""

    def __init__(self, paths: tuple[bytes, ...]) -> None:
        super().__init__(paths)
        self.paths = paths
