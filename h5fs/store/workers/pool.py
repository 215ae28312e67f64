"""The workers of one file: which worker answers a request, and what happens when it does not.

A worker has one request at a time. When all workers have been busy for a moment, another one is
started, so that a long request holds up no others. A worker that dies or hangs is replaced, and its
request is repeated when that can help; the subject of a request that kills or hangs workers by
itself is an error from then on (``quarantine``). A request is not blamed for a worker that had not
begun with it, nor for a worker that only waited.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from h5fs.errors import CannotOpenError, H5fsError, UnreadableError
from h5fs.model.file_status import NumberedFile
from h5fs.model.settings import StoreOptions
from h5fs.store.library_interface import ChangedObjects
from h5fs.store.statistics import WorkerStatistics
from h5fs.store.workers.connection import WorkerConnection
from h5fs.store.workers.failures import Failure, Failures, NotOpenedError, what_is_lost
from h5fs.store.workers.grants import Grants
from h5fs.store.workers.quarantine import Quarantine, Subject
from h5fs.store.workers.shared_buffers import SharedBuffer
from h5fs.store.workers.slots import Slot, find_idle
from h5fs.store.workers.starting.worker_starter import WorkerStarter
from h5fs.store.workers.worker_errors import (
    FilesNeededError,
    WorkerDiedError,
    WorkerHungError,
)
from h5fs.store.workers.worker_file import FileKind, WorkerFile

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.1
_CLOSING_SECONDS = 10
_SLOWEST_BYTES_PER_SECOND = 2**20
_SECONDS_BETWEEN_STARTS = 0.1
_NO_FILE = WorkerFile(FileKind.PLAIN, ())  # workers open the path


class WorkerPool:
    """Calls methods of ``LibraryStore`` in workers. Safe to use from any thread.

    ``grants``: the files that workers may read beside the mounted one. ``on_change(changed, stop)``
    is told each commit of a change, and ``on_loss`` that a worker is gone, both before another
    request can come. ``_lock``, that of the condition ``_changed``, is held for moments only; it
    protects ``_slots``, ``_files``, ``_waiting``, the number of threads that wait for a change of
    the slots, and ``_lingering``, the workers that were killed and have not ended.
    """

    def __init__(
        self,
        options: StoreOptions,
        count: int,
        quarantine: Quarantine,
        starter: WorkerStarter,
        grants: Grants | None = None,
        *,
        on_change: Callable[[ChangedObjects, int], None] | None = None,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self._options = options
        self._on_change = on_change
        self._on_loss = on_loss
        self._grants = grants or Grants(options.external, options.file.parent)
        self._limits = options.limits
        self.quarantine = quarantine
        self._starter = starter
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        self._count = count
        # Two workers that write would not know of each other's changes.
        self._most = count if options.mode.writes else 2 * count + 2
        self._file = _NO_FILE
        self._lingering: list[WorkerConnection] = []
        self._slots: list[Slot] = []
        self._files: dict[int, NumberedFile] = {}
        self._numbers = itertools.count()
        self._is_closed = False
        self._replaced_count = 0  # a lost increment does no harm

    @property
    def count(self) -> int:
        """The usual number of workers."""
        return self._count

    def open(self, file: WorkerFile = _NO_FILE) -> None:
        """Start the first worker and let it open the file. Raises what opening raises."""
        self._file = file
        slot = self._take(None)
        try:
            self._connect(slot)
        except NotOpenedError as failure:
            raise CannotOpenError(str(failure)) from None
        finally:
            self._give_back(slot)

    def start_all(self, first: int = 1) -> None:
        """Start the usual number of workers, so that the first reads need not wait for them."""
        for number in range(first, self._count):
            slot = self._take(number)
            try:
                self._connect(slot)
            except (H5fsError, NotOpenedError) as error:
                _log.info("a worker did not start: %s", error)  # the next request will try again
            finally:
                self._give_back(slot)

    def numbered_file(self, file: int) -> NumberedFile:
        """Return a file that a worker has numbered. Raises ``UnreadableError``."""
        with self._changed:
            if file not in self._files:
                raise UnreadableError(f"no file has the number {file}")
            return self._files[file]

    def call(
        self,
        method: str,
        *arguments: Any,
        subject: Subject,
        into: memoryview | None = None,
        asked_bytes: int = 0,
        preferred_worker: int | None = None,
        preferred_only: bool = False,
        shared_buffers: tuple[SharedBuffer, ...] = (),
        on_failure: Callable[[bytes], None] | None = None,
        is_repeatable: bool = True,
        is_ahead: bool = False,
    ) -> Any:
        """Return a worker's answer.

        ``subject`` goes into quarantine when the request kills or hangs workers; before that
        ``on_failure`` is called with the worker's last note, and may raise instead.
        ``preferred_worker``: the number, modulo the usual number, of the worker that has most of
        the answer cached; with ``preferred_only`` the request waits for that worker, since any
        other would take long. A request that is not ``is_repeatable`` changes the file: when the
        worker dies during it, ``LostChangesError`` is raised. Nobody waits yet for a request that
        ``is_ahead``: after any failure of the worker ``on_failure`` is called, and must raise.
        Raises ``H5fsError``.
        """
        seconds = self._limits.deadline_seconds + asked_bytes / _SLOWEST_BYTES_PER_SECOND
        failures = Failures()
        while True:
            self.quarantine.check(subject)
            slot = self._take(preferred_worker, preferred_only=preferred_only)
            try:
                connection = self._connect(slot)
                return connection.call(
                    # To copy a dict of plain values is one step for the interpreter.
                    method, arguments, seconds=seconds, into=into, files=dict(self._files),
                    shared_buffers=shared_buffers,
                    commit=self._commit_for(subject),
                )  # fmt: skip
            except H5fsError:
                if slot.connection is not None and slot.connection.is_last_answer:
                    self._end(slot)
                raise
            except FilesNeededError as need:
                failures.note_need()
                self._grant(slot, need)
            except NotOpenedError as failure:
                raise UnreadableError(f"{subject.path}: {failure}") from None
            except (WorkerDiedError, WorkerHungError) as error:
                note, has_ended = self._bury_asked(slot)
                if not is_repeatable and (lost := what_is_lost(error)) is not None:
                    loss = lost(f"{subject.path}: {error}")
                    loss.note = note
                    raise loss from None
                if not has_ended:  # not even SIGKILL ends a process that waits in the kernel
                    raise UnreadableError(f"{subject.path}: the disk does not answer") from None
                if is_ahead and on_failure is not None:
                    on_failure(note)
                self._judge(error, failures, subject, note, on_failure)
            finally:
                self._give_back(slot)

    def _commit_for(self, _subject: Subject) -> tuple[int, int] | None:
        """Return what a worker must have caught up with before it reads an object."""
        return None

    def forget_shared_buffer(self, shared_buffer: SharedBuffer) -> None:
        """Let all workers know that a shared buffer is gone."""
        with self._changed:
            for slot in self._slots:
                if slot.connection is not None:
                    slot.connection.forget_shared_buffer(shared_buffer.number)

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers that run."""
        with self._changed:
            return [p.connection.pid for p in self._slots if p.connection is not None]

    def statistics(self) -> WorkerStatistics:
        """Return which workers run, without those that died and were not replaced yet."""
        with self._changed:
            connections = [p.connection for p in self._slots if p.connection is not None]
        pids = tuple(each.pid for each in connections if each.runs())
        return WorkerStatistics(self._count, pids, self._replaced_count)

    def close(self) -> None:
        """End all workers, also those with a request; return when they are gone."""
        with self._changed:
            self._is_closed = True
            idle = []
            for slot in self._slots:
                if slot.connection is None:
                    continue
                if slot.is_busy:
                    slot.connection.interrupt()
                else:
                    idle.append(slot.connection)
                    slot.connection = None
            self._changed.notify_all()
        for connection in idle:
            self._kill(connection)
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(
                lambda: not any(slot.is_busy for slot in self._slots), _CLOSING_SECONDS
            )
            self._waiting -= 1
        self._forget_ended()
        with self._changed:
            given_up, self._lingering = self._lingering, []
        for connection in given_up:
            _log.warning("worker %d does not end: the disk does not answer", connection.pid)
            connection.close()

    def _take(self, preferred_worker: int | None, *, preferred_only: bool = False) -> Slot:
        """Mark an idle slot as busy and return it; wait for one, or make one more."""
        patience_ends = time.monotonic() + _PATIENCE_SECONDS
        with self._lock:
            while True:
                if self._is_closed:
                    raise UnreadableError("the mount has ended")
                has_preferred = (
                    preferred_worker is not None
                    and preferred_worker % self._count < len(self._slots)
                )
                waits = preferred_only and has_preferred
                slot = find_idle(self._slots, self._count, preferred_worker, preferred_only=waits)
                if (
                    slot is None
                    and not waits
                    and (
                        len(self._slots) < self._count
                        or (time.monotonic() > patience_ends and len(self._slots) < self._most)
                    )
                ):
                    slot = Slot(next(self._numbers))
                    self._slots.append(slot)
                if slot is not None:
                    slot.is_busy = True
                    return slot
                self._waiting += 1
                self._changed.wait(_PATIENCE_SECONDS)
                self._waiting -= 1

    def _give_back(self, slot: Slot) -> None:
        while True:
            with self._lock:
                # A worker beyond the usual number ends: the next one starts in milliseconds.
                goes = self._is_closed or slot in self._slots[self._count :]
                if not goes or slot.connection is None:
                    if goes:
                        self._slots = [other for other in self._slots if other is not slot]
                    slot.is_busy = False
                    if self._waiting:
                        self._changed.notify_all()
                    return
                connection, slot.connection = slot.connection, None
            # The slot is busy until the worker is gone: `close` waits, since workers lock the file.
            self._kill(connection)

    def _end(self, slot: Slot) -> bool:
        """Leave a slot without a worker; return whether the worker that was in it is gone."""
        connection, slot.connection = slot.connection, None
        has_ended = connection is None or self._kill(connection)
        if self._on_loss is not None:
            self._on_loss()
        return has_ended

    def _kill(self, connection: WorkerConnection) -> bool:
        if connection.kill():
            connection.close()
            return True
        with self._changed:
            self._lingering.append(connection)
        return False

    def _forget_ended(self) -> bool:
        """Forget killed workers that have ended by now; return whether there are others."""
        with self._changed:
            lingering = list(self._lingering)
        ended = [each for each in lingering if each.is_gone()]
        with self._changed:
            gone = [each for each in self._lingering if each in ended]  # no other thread has these
            self._lingering = [each for each in self._lingering if each not in ended]
            are_others = bool(self._lingering)
        for connection in gone:
            connection.close()
        return are_others

    def _grant(self, slot: Slot, need: FilesNeededError) -> None:
        """Let the next worker read the files that this one needs. Raises ``H5fsError``."""
        self._grants.add(need.paths)
        self._end(slot)

    def _connect(self, slot: Slot) -> WorkerConnection:
        """Return the slot's connection, with a worker that has opened the file.

        Raises ``H5fsError``, ``NotOpenedError``.
        """
        if slot.connection is not None and not slot.connection.is_alive():
            # The worker died while it had no request.
            self._bury(slot)
            self._end(slot)
        if slot.connection is not None:
            return slot.connection
        failures = Failures()
        while True:
            if self._lingering and self._forget_ended() and self._options.mode.writes:
                # The old worker may be waiting in a write, which would come after the new one's.
                raise UnreadableError("the worker before has not ended: the disk does not answer")
            try:
                slot.connection = self._start()
                if self._is_closed:  # `close` has not seen this worker
                    raise UnreadableError("the mount has ended")
                slot.connection.wait_until_open(self._limits.deadline_seconds)
                return slot.connection
            except H5fsError:
                self._end(slot)
                raise
            except FilesNeededError:
                self._end(slot)
                raise UnreadableError("a worker asks for files before it was asked") from None
            except (WorkerDiedError, WorkerHungError) as error:
                was_ready = slot.connection is not None and slot.connection.is_ready
                self._bury(slot)
                self._end(slot)
                is_held_up = isinstance(error, WorkerHungError) and not was_ready
                if is_held_up and self._grants.clear():
                    raise UnreadableError(
                        "one of the files that links lead to does not answer; try again"
                    ) from None
                failures.note_start(error, was_ready=was_ready)
                time.sleep(_SECONDS_BETWEEN_STARTS)

    def _start(self) -> WorkerConnection:
        try:
            return WorkerConnection(
                self._starter, self._options, self._on_file, self._file, self._grants.all(),
                self._on_change,
            )  # fmt: skip
        except OSError as error:
            raise UnreadableError(f"no worker process can be started: {error}") from None

    def _on_file(self, number: int, file: NumberedFile) -> None:
        with self._changed:
            if self._files.setdefault(number, file) != file:
                raise UnreadableError(f"two files have the number {number}")

    def _bury_asked(self, slot: Slot) -> tuple[bytes, bool]:
        """Drop a worker that had a request; return its last note, and whether it is gone."""
        self._bury(slot)
        note = slot.connection.note() if slot.connection is not None else b""
        return note, self._end(slot)

    def _bury(self, slot: Slot) -> None:
        self._replaced_count += 1
        _log.info("worker %s is replaced", slot.connection.pid if slot.connection else "?")

    def _judge(
        self,
        error: Failure,
        failures: Failures,
        subject: Subject,
        note: bytes,
        on_failure: Callable[[bytes], None] | None,
    ) -> None:
        """Return if the request may be tried once more; else raise ``UnreadableError``."""
        try:
            if not failures.is_to_blame(error):
                return
        except UnreadableError as refusal:
            raise UnreadableError(f"{subject.path}: {refusal}") from None
        if on_failure is not None:
            on_failure(note)
        self.quarantine.add(subject, str(error))
        raise UnreadableError(f"{subject.path}: {error}")
