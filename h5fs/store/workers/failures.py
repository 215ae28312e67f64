"""What follows from a worker's death, or silence: what is to blame, and whether to try again."""

from __future__ import annotations

from msgspec import Struct

from h5fs.errors import KilledChangeError, LostChangesError, UnreadableError
from h5fs.store.workers.worker_errors import WorkerDiedError, WorkerHungError

# A worker may have died of what an earlier request left behind, so that one more try is fair. A
# worker that was killed from outside proves nothing about the request.
_CRASHES_ALLOWED = 2
_KILLS_ALLOWED = 20
_STOPS_ALLOWED = 2
_STARTS_ALLOWED = 5
_NEEDS_ALLOWED = 100  # each one starts a worker; sources of one dataset are asked for together

Failure = WorkerDiedError | WorkerHungError


class NotOpenedError(Exception):
    """Workers that were to open the file died or hung; ``error``: how the last one ended."""

    def __init__(self, error: Failure) -> None:
        super().__init__(explain_not_opened(error))
        self.error = error


class Failures(Struct):
    """How many workers one request, or one start of a worker, has cost so far."""

    crashes: int = 0
    kills: int = 0
    stops: int = 0
    needs: int = 0

    def note_need(self) -> None:
        """Count an answer that needs more files. Raises ``UnreadableError`` after too many."""
        self.needs += 1
        if self.needs > _NEEDS_ALLOWED:
            raise UnreadableError("it needs other files without end")

    def is_to_blame(self, error: Failure) -> bool:
        """Whether the request is to blame for killing or hanging workers; False: try once more.

        Raises ``UnreadableError`` when nothing is to blame and another try would end alike.
        """
        if isinstance(error, WorkerDiedError):
            is_innocent = error.was_killed or not error.was_asked
            self.kills += is_innocent
            self.crashes += not is_innocent
            return self.kills >= _KILLS_ALLOWED or self.crashes >= _CRASHES_ALLOWED
        if not error.has_waited:
            return True
        self.stops += 1
        if error.was_stopped and self.stops < _STOPS_ALLOWED:
            return False  # somebody has stopped the worker, which is like killing it
        raise UnreadableError(f"{error}; it is tried again when it is asked for")

    def note_start(self, error: Failure, *, was_ready: bool) -> None:
        """Return if one more start may succeed. Raises ``UnreadableError``, ``NotOpenedError``.

        ``was_ready``: the worker had begun to open the file. Before that the file cannot be to
        blame.
        """
        if was_ready and not (isinstance(error, WorkerDiedError) and error.was_killed):
            self.crashes += 1
            if isinstance(error, WorkerHungError) or self.crashes >= _CRASHES_ALLOWED:
                raise NotOpenedError(error)
            return
        self.kills += 1
        if self.kills >= (_KILLS_ALLOWED if was_ready else _STARTS_ALLOWED):
            raise UnreadableError(f"no worker process can be started: {error}")


def what_is_lost(error: Failure) -> type[LostChangesError] | None:
    """Return the error of a change that may have been begun; None when it was not."""
    if not isinstance(error, WorkerDiedError):
        return LostChangesError
    if not error.was_asked:
        return None
    return KilledChangeError if error.was_killed else LostChangesError


def explain_not_opened(error: Failure) -> str:
    """Return the message for a file on which workers die or hang while they open it."""
    if isinstance(error, WorkerDiedError):
        return f"the HDF5 library crashes when it opens the file ({error}); the file is damaged"
    if error.has_waited:
        return f"the disk does not answer when the file is opened ({error}); try again"
    return (
        f"the HDF5 library hangs when it opens the file ({error}; -o deadline=SECONDS "
        "gives it longer)"
    )
