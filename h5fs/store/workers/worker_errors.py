"""The ways in which a request to a worker ends with neither an answer nor a refusal."""

from __future__ import annotations


class WorkerHungError(Exception):
    """The worker gave no answer within the deadline.

    ``has_waited``: it did not compute, so that the request need not be to blame. ``was_stopped``: a
    signal or a debugger has stopped it.
    """

    def __init__(self, reason: str, *, has_waited: bool = False, was_stopped: bool = False) -> None:
        super().__init__(reason)
        self.has_waited = has_waited
        self.was_stopped = was_stopped


class WorkerDiedError(Exception):
    """The worker has ended. ``was_killed``: by SIGKILL, which is no fault of the request.

    ``was_asked``: it may have begun to work on the request.
    """

    def __init__(self, reason: str, *, was_asked: bool = True) -> None:
        super().__init__(reason)
        self.was_killed = reason.endswith("SIGKILL")
        self.was_asked = was_asked


class WorkerLiedError(WorkerDiedError):
    """The worker sent something that is no answer to the request: a file has taken it over."""


class FilesNeededError(Exception):
    """The answer needs files that the worker may not read yet."""

    def __init__(self, paths: tuple[bytes, ...]) -> None:
        super().__init__(paths)
        self.paths = paths
