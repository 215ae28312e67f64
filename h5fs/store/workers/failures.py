"""What the death of a worker, or its silence, says: who is to blame, and whether to try again."""

from __future__ import annotations

from dataclasses import dataclass

from h5fs.errors import UnreadableError
from h5fs.store.workers.endings import WorkerDiedError, WorkerHungError

# A worker may have died of what an earlier request left behind, so that one more try is fair; and
# one that was killed from outside has done nothing.
_CRASHES_ALLOWED = 2
_KILLS_ALLOWED = 20
_STOPS_ALLOWED = 2
_STARTS_ALLOWED = 5
_NEEDS_ALLOWED = 100  # each time a worker is started; sources of one dataset are asked for together

Failure = WorkerDiedError | WorkerHungError


class NotOpenedError(Exception):
    """Workers that were to open the file died or hung; ``error`` says how the last one did."""

    def __init__(self, error: Failure) -> None:
        super().__init__(explain_not_opened(error))
        self.error = error


@dataclass(slots=True)
class Failures:
    """What one request, or one start of a worker, has cost so far."""

    crashes: int = 0
    kills: int = 0
    stops: int = 0
    needs: int = 0

    def note_need(self) -> None:
        """Return when an answer may need yet more files. Raises ``UnreadableError``."""
        self.needs += 1
        if self.needs > _NEEDS_ALLOWED:
            raise UnreadableError("it needs other files without end")

    def is_to_blame(self, error: Failure) -> bool:
        """Whether what was asked has killed or hung workers by itself; False: try once more.

        Raises ``UnreadableError`` when nobody is to blame and another try would be as bad.
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
            return False  # somebody has stopped it: that is as good as killed
        raise UnreadableError(f"{error}; it is tried again when it is asked for")

    def note_start(self, error: Failure, *, was_ready: bool) -> None:
        """Return when one more start may succeed. Raises ``UnreadableError``, ``NotOpenedError``.

        ``was_ready``: the worker had begun to open the file. Before that nothing is the file's
        fault.
        """
        if was_ready and not (isinstance(error, WorkerDiedError) and error.was_killed):
            self.crashes += 1
            if isinstance(error, WorkerHungError) or self.crashes >= _CRASHES_ALLOWED:
                raise NotOpenedError(error)
            return
        self.kills += 1
        if self.kills >= (_KILLS_ALLOWED if was_ready else _STARTS_ALLOWED):
            raise UnreadableError(f"no worker process can be started: {error}")


def explain_not_opened(error: Failure) -> str:
    """Return what a person is told when workers die or hang that open the file."""
    if isinstance(error, WorkerDiedError):
        return f"the HDF5 library crashes when it opens the file ({error}); the file is damaged"
    if error.has_waited:
        return f"the disk does not answer when the file is opened ({error}); try again"
    return (
        f"the HDF5 library hangs when it opens the file ({error}; -o deadline=SECONDS "
        "gives it longer)"
    )
