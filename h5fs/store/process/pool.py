"""The workers of one file: who answers a request, and what happens when one does not.

A request goes to an idle worker, one at a time each. When all have been busy for a moment another
is started, so that a request that takes long holds up nobody else. A worker that dies or hangs is
replaced, and its request repeated when that can help; one that kills or hangs workers by itself is
an error for good (``quarantine``).
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from h5fs.errors import CannotOpenError, H5fsError, LostChangesError, UnreadableError
from h5fs.options import StoreOptions
from h5fs.store.process.connection import WorkerConnection, WorkerDiedError, WorkerHungError
from h5fs.store.process.nursery import Nursery
from h5fs.store.process.quarantine import Quarantine, Suspect
from h5fs.store.process.segments import Segment
from h5fs.store.statistics import WorkerStatistics

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.1
_CLOSING_SECONDS = 10
_SLOWEST_BYTES_PER_SECOND = 2**20
# A worker may have died of what an earlier request left behind, so that one more try is fair; and
# one that was killed from outside has done nothing.
_CRASHES_ALLOWED = 2
_KILLS_ALLOWED = 20


@dataclass(eq=False, slots=True)
class _Place:
    """Room for one worker; ``connection`` is None while nobody has been started there."""

    number: int
    connection: WorkerConnection | None = None
    is_busy: bool = False


@dataclass(slots=True)
class _Failures:
    """What a request has cost so far."""

    crashes: int = 0
    kills: int = 0


class WorkerPool:
    """Calls methods of ``LibraryStore`` in workers. Safe to use from any thread.

    ``_changed`` (a condition, whose lock is taken for moments only) protects ``_places`` and
    ``_files``.
    """

    def __init__(
        self,
        options: StoreOptions,
        count: int,
        quarantine: Quarantine,
        nursery: Nursery,
        files: tuple[int, ...] = (),
    ) -> None:
        self._options = options
        self._limits = options.limits
        self._quarantine = quarantine
        self._nursery = nursery
        self._changed = threading.Condition()
        self._count = count
        # Two that write would not know of each other's changes.
        self._most = count if options.mode.writes else 2 * count + 2
        self._descriptors = files
        self._places: list[_Place] = []
        self._files: dict[int, bytes] = {}
        self._numbers = itertools.count()
        self._is_closed = False
        self._replaced_count = 0  # a lost increment does no harm

    @property
    def count(self) -> int:
        """How many workers there are as a rule."""
        return self._count

    def open(self) -> None:
        """Start the first worker and let it open the file. Raises what that raises."""
        place = self._take(None)
        try:
            self._connect(place)
        except WorkerDiedError as error:
            raise CannotOpenError(
                f"the HDF5 library crashes when it opens the file ({error}); the file is damaged"
            ) from None
        except WorkerHungError as error:
            raise CannotOpenError(
                f"the HDF5 library hangs when it opens the file ({error}; -o deadline=SECONDS "
                "gives it longer)"
            ) from None
        finally:
            self._give_back(place)

    def start_all(self) -> None:
        """Start the workers that there are as a rule; the first read need not wait for them."""
        for number in range(1, self._count):
            place = self._take(number)
            try:
                self._connect(place)
            except (H5fsError, WorkerDiedError, WorkerHungError) as error:
                _log.info("a worker did not start: %s", error)  # who needs it will try again
            finally:
                self._give_back(place)

    def path_of(self, file: int) -> bytes:
        """Return the path of a file that a worker has numbered. Raises ``UnreadableError``."""
        with self._changed:
            if file not in self._files:
                raise UnreadableError(f"no file has the number {file}")
            return self._files[file]

    def call(
        self,
        method: str,
        *arguments: Any,
        suspect: Suspect,
        into: memoryview | None = None,
        asked_bytes: int = 0,
        home: int | None = None,
        at_home_only: bool = False,
        segments: tuple[Segment, ...] = (),
        on_failure: Callable[[bytes], None] | None = None,
        is_repeatable: bool = True,
    ) -> Any:
        """Return what a worker answers.

        ``suspect`` takes the blame when the request kills or hangs workers; ``on_failure`` is told
        before it does, with what the worker noted last, and may raise instead. ``home`` says which
        worker knows most, counted modulo their number; with ``at_home_only`` the request waits for
        it, since another would have to find out first what took this one long. A request that is
        not ``is_repeatable`` changes the file: when the worker dies over it, that is
        ``LostChangesError``. Raises ``H5fsError``.
        """
        seconds = self._limits.deadline_seconds + asked_bytes / _SLOWEST_BYTES_PER_SECOND
        failures = _Failures()
        while True:
            self._quarantine.check(suspect)
            place = self._take(home, at_home_only=at_home_only)
            try:
                connection = self._connect(place)
                with self._changed:
                    files = dict(self._files) if self._files else self._files
                return connection.call(
                    method, arguments, seconds=seconds, into=into, files=files, segments=segments
                )
            except H5fsError:
                if place.connection is not None and place.connection.is_last_answer:
                    place.connection.kill()
                    place.connection = None
                raise
            except (WorkerDiedError, WorkerHungError) as error:
                self._bury(place)
                note = b""
                if place.connection is not None:
                    note = place.connection.note()
                    place.connection.kill()
                    place.connection = None
                if not is_repeatable:
                    raise LostChangesError(f"{suspect.path}: {error}") from None
                self._judge(error, failures, suspect, note, on_failure)
            finally:
                self._give_back(place)

    def forget_segment(self, segment: Segment) -> None:
        """Let all workers know that a segment is gone."""
        with self._changed:
            for place in self._places:
                if place.connection is not None:
                    place.connection.forget_segment(segment.number)

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers that run."""
        with self._changed:
            return [p.connection.pid for p in self._places if p.connection is not None]

    def statistics(self) -> WorkerStatistics:
        """Return which workers run; one that has died and was not missed yet is not among them."""
        with self._changed:
            connections = [p.connection for p in self._places if p.connection is not None]
        pids = tuple(each.pid for each in connections if each.runs())
        return WorkerStatistics(self._count, pids, self._replaced_count)

    def close(self) -> None:
        """End all workers, also those that are asked something; return when they are gone."""
        with self._changed:
            self._is_closed = True
            idle = []
            for place in self._places:
                if place.connection is None:
                    continue
                if place.is_busy:
                    place.connection.interrupt()
                else:
                    idle.append(place.connection)
                    place.connection = None
            self._changed.notify_all()
        for connection in idle:
            connection.kill()
        with self._changed:
            self._changed.wait_for(
                lambda: not any(place.is_busy for place in self._places), _CLOSING_SECONDS
            )

    def _take(self, home: int | None, *, at_home_only: bool = False) -> _Place:
        """Return a place that is idle, and now busy; wait for one, or make one more."""
        patience_ends = time.monotonic() + _PATIENCE_SECONDS
        with self._changed:
            while True:
                if self._is_closed:
                    raise UnreadableError("the mount has ended")
                has_home = home is not None and home % self._count < len(self._places)
                waits = at_home_only and has_home
                place = self._find_idle(home, at_home_only=waits)
                if (
                    place is None
                    and not waits
                    and (
                        len(self._places) < self._count
                        or (time.monotonic() > patience_ends and len(self._places) < self._most)
                    )
                ):
                    place = _Place(next(self._numbers))
                    self._places.append(place)
                if place is not None:
                    place.is_busy = True
                    return place
                self._changed.wait(_PATIENCE_SECONDS)

    def _find_idle(self, home: int | None, *, at_home_only: bool) -> _Place | None:
        if home is not None:
            wanted = home % self._count
            if wanted >= len(self._places):
                return None  # it is yet to be started
            if at_home_only or not self._places[wanted].is_busy:
                return None if self._places[wanted].is_busy else self._places[wanted]
        return next((place for place in self._places if not place.is_busy), None)

    def _give_back(self, place: _Place) -> None:
        while True:
            with self._changed:
                # One that was started for a rush goes, too: the next one starts in milliseconds.
                goes = self._is_closed or place in self._places[self._count :]
                if not goes or place.connection is None:
                    if goes:
                        self._places = [other for other in self._places if other is not place]
                    place.is_busy = False
                    self._changed.notify_all()
                    return
                connection, place.connection = place.connection, None
            # It is busy until it is gone: `close` waits for that, since it has the file locked.
            connection.kill()

    def _connect(self, place: _Place) -> WorkerConnection:
        """Return the place's connection, with a worker that has opened the file."""
        if place.connection is not None and not place.connection.is_alive():
            # It died while nobody asked it anything.
            self._bury(place)
            place.connection.kill()
            place.connection = None
        if place.connection is None:
            try:
                place.connection = WorkerConnection(
                    self._nursery, self._options, self._on_file, self._descriptors
                )
            except OSError as error:
                raise UnreadableError(f"no worker process can be started: {error}") from None
            try:
                place.connection.wait_until_open(self._limits.deadline_seconds)
            except H5fsError:
                place.connection.kill()
                place.connection = None
                raise
        return place.connection

    def _on_file(self, number: int, path: bytes) -> None:
        with self._changed:
            if self._files.setdefault(number, path) != path:
                raise UnreadableError(f"two files have the number {number}")

    def _bury(self, place: _Place) -> None:
        self._replaced_count += 1
        _log.info("worker %s is replaced", place.connection.pid if place.connection else "?")

    def _judge(
        self,
        error: WorkerDiedError | WorkerHungError,
        failures: _Failures,
        suspect: Suspect,
        note: bytes,
        on_failure: Callable[[bytes], None] | None,
    ) -> None:
        """Return when the request may be tried once more; else raise ``UnreadableError``."""
        if isinstance(error, WorkerDiedError):
            failures.kills += error.was_killed
            failures.crashes += not error.was_killed
            if failures.kills < _KILLS_ALLOWED and failures.crashes < _CRASHES_ALLOWED:
                return
        if on_failure is not None:
            on_failure(note)
        self._quarantine.add(suspect, str(error))
        raise UnreadableError(f"{suspect.path}: {error}")
