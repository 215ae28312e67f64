"""What a store of a mode that writes does beside its changes: commits, checkpoints, reading.

One worker writes, a clock lets it commit, and other workers read beside it. Lives in the daemon.
Safe to call from any thread.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from h5fs.errors import H5fsError, StaleError, UnreadableError
from h5fs.model.objects import DatasetInfo, ObjectRef
from h5fs.model.settings import StoreOptions
from h5fs.store.interface import ArrayPart, DataVersion
from h5fs.store.library_interface import ChangedObjects, first_changed_bytes
from h5fs.store.log.file_and_log import FileAndLog
from h5fs.store.log.reading.committed_state import CommittedState
from h5fs.store.log.uncommitted import Uncommitted
from h5fs.store.mounted_file import FileWithLog
from h5fs.store.path_check import PathCheck
from h5fs.store.repeating import ask_until_answered
from h5fs.store.statistics import StoreStatistics, UncommittedStatistics
from h5fs.store.worker_stores.change_queue import Answered, ChangeQueue, NotAnswered, Outcome
from h5fs.store.worker_stores.concurrent_reading import ConcurrentReading
from h5fs.store.worker_stores.worker_store import WorkerStore
from h5fs.store.workers.pool import WorkerPool
from h5fs.store.workers.quarantine import Subject
from h5fs.store.workers.reader_pool import ReaderPool
from h5fs.store.workers.starting.worker_starter import WorkerStarter

_log = logging.getLogger(__name__)

ROOT = ObjectRef(0, 0, b"/")
_MOST_LOG_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class _DurableCommit:
    """A commit that somebody waits for; all that wait at the same time share one."""

    asked_bytes: int
    goes_alone: bool = False
    size: int = 0
    descriptor_count: int = 0


class LoggedWorkerStore(WorkerStore):
    """The part of a ``WritingWorkerStore`` that makes no changes.

    ``_noting``, the lock of the condition ``_clock``, protects ``_changed_at``,
    ``_unsynced_bytes``, ``_uncommitted``, ``_is_ending`` and what a ``WritingWorkerStore`` says; no
    call to a worker is made while it is held. ``_needs_room``: the log may fill the disk, so it is
    brought in before the next change. ``_lost`` is each thread's own: ``was_told``, whether the
    worker has told of a commit during the thread's request; ``has_committed``, whether a worker
    that the request lost has, or may have, committed something.
    """

    def __init__(
        self, options: StoreOptions, files: FileAndLog, starter: WorkerStarter | None = None
    ) -> None:
        self._state = CommittedState(files)
        self._file = FileWithLog(options, files)
        super().__init__(options, starter, self._file)
        self._reading = ConcurrentReading(self._state, self._chunks, super().describe_dataset)
        self._commit_seconds = options.commit_seconds
        self._boot_id = options.boot_id
        self._path_check = PathCheck(files.main, files.path)
        self._foreign_change = ""
        self._needs_room = False
        self._lost = threading.local()
        self._commits: ChangeQueue[_DurableCommit] = ChangeQueue(self._commit_together)
        self._noting = threading.RLock()
        self._clock = threading.Condition(self._noting)
        self._changed_at: float | None = None
        self._unsynced_bytes = 0
        self._uncommitted = Uncommitted()
        self._is_ending = False
        self._timer = threading.Thread(target=self._commit_now_and_then, name="commit", daemon=True)

    def open(self) -> None:
        """Open the mounted file. Raises ``CannotOpenError``, ``UnreadableError``."""
        super().open()
        self._state.find()
        self._readers.lend(self._file.for_readers())
        threading.Thread(target=self._start_readers, name="start-readers", daemon=True).start()
        self._timer.start()

    def _start_readers(self) -> None:
        try:
            self._readers.start_all(0)
        except UnreadableError:
            return  # the mount has ended meanwhile

    def _pool_for_chunks(self, count: int, starter: WorkerStarter) -> WorkerPool:
        options = structs.replace(self._options, location=self._path)
        self._readers = ReaderPool(
            options, count, self._quarantine, starter, self._grants,
            state=self._state, writer=self._pool,
        )  # fmt: skip
        return self._readers

    def _note_change(self, changed: ChangedObjects, stop: int) -> None:
        self._lost.was_told = True
        if changed == ():  # no data: links alone, or objects that are new
            self._state.note(changed, stop)
            return
        first = None if changed is None else first_changed_bytes(changed)
        partly = [each for each, start in first.items() if start] if first else []
        before = [self._state.version_of_id(each) for each in partly] if partly else []
        self._state.note(first, stop)
        after = [self._state.version_of_id(each) for each in partly] if partly else []
        versions = dict(zip(partly, zip(before, after, strict=True), strict=True))
        self._chunks.note_change(first, versions)

    def _note_loss(self) -> None:
        """Take note that the worker is gone: only the log says what it has done at last."""
        before = self._state.last_commit()
        self._state.find()
        number, stop = self._state.last_commit()
        is_newer = number == before[0] and stop != before[1]
        is_newer |= getattr(self._lost, "was_told", False)  # in the middle of the request
        self._lost.has_committed = is_newer or not self._state.is_known
        self._chunks.note_change(None, {})
        self._needs_room = True

    def describe_dataset(self, ref: ObjectRef) -> DatasetInfo:
        return self._reading.describe(ref)

    def data_version(self, ref: ObjectRef) -> DataVersion | None:
        return self._reading.data_version(ref)

    def read_into(
        self,
        ref: ObjectRef,
        dataset: DatasetInfo,
        part: ArrayPart,
        offset: int,
        buffer: memoryview,
    ) -> None:
        if self._foreign_change:
            raise StaleError(f"{self._foreign_change}: unmount, and mount anew")
        if part is not ArrayPart.ELEMENTS or not self._reading.read_into(
            ref, dataset, offset, buffer
        ):
            through_library = structs.replace(dataset, data=None)
            super().read_into(ref, through_library, part, offset, buffer)

    def commit(self, is_checkpoint: bool = False) -> None:
        with self._clock:
            size, self._unsynced_bytes = self._unsynced_bytes, 0
            self._changed_at = None
            changes = self._uncommitted.begin()
        try:
            if os.fstat(self._logged_files().log).st_size:
                self._check_path()
            if is_checkpoint:
                with self._state.checkpoint():
                    self._commit_alone(size, is_checkpoint=True)
            else:
                self._commits.make(
                    _DurableCommit(size), lambda _may_be_done: self._commit_alone(size)
                )
        except H5fsError:
            with self._clock:
                self._unsynced_bytes += size
                self._uncommitted.fail(changes)
                if self._changed_at is None:
                    self._start_clock()  # which tries again
            raise
        with self._clock:
            self._uncommitted.end(changes)

    def _commit_alone(self, asked_bytes: int, *, is_checkpoint: bool = False) -> None:
        ask = functools.partial(
            self._ask, "commit", is_checkpoint, subject=Subject(ROOT, b"commit"),
            asked_bytes=asked_bytes, is_repeatable=False,
        )  # fmt: skip
        ask_until_answered("commit", "the file", ask)

    def _commit_together(self, commits: Sequence[_DurableCommit]) -> list[Outcome]:
        """Make one commit for several that wait for one; if it fails, each is made alone."""
        try:
            self._commit_alone(sum(each.asked_bytes for each in commits))
        except H5fsError:
            return [NotAnswered(may_be_done=False)] * len(commits)
        return [Answered()] * len(commits)

    def statistics(self) -> StoreStatistics:
        with self._clock:
            changes = self._uncommitted.total()
        age = None if changes.since is None else time.monotonic() - changes.since
        logged = self._file.logged
        log_bytes = os.fstat(logged.log).st_size if logged is not None else 0
        uncommitted = UncommittedStatistics(changes.count, changes.size_bytes, age, log_bytes)
        found = super().statistics()
        workers = found.workers + self._readers.statistics()
        return structs.replace(found, workers=workers, uncommitted=uncommitted)

    def close(self) -> None:
        """Commit everything to the file itself, and end. What cannot be committed stays in the
        log, for the next mount.
        """
        with self._clock:
            if self._is_ending:
                return
            self._is_ending = True
            self._clock.notify_all()
        if self._timer.ident is not None:
            self._timer.join()
            self._file.removes_log = self._bring_in()
        self._readers.close()
        super().close()

    def _bring_in(self) -> bool:
        """Bring all that is committed to where it belongs; return whether the log may go."""
        files = self._logged_files()
        has_content = os.fstat(files.log).st_size > 0
        try:
            if self._foreign_change and has_content:
                aside = files.keep_log_aside()
                _log.error("%s; what the log has is kept as %s", self._foreign_change, aside)
            elif self._path_check.is_gone() and has_content:
                left = files.save_content(self._boot_id)
                _log.error("%s; its content is kept as %s", self._path_check.problem(), left)
            elif not self._foreign_change and not self._path_check.is_gone():
                self.commit(is_checkpoint=True)
                if has_content and (problem := self._path_check.problem()):
                    _log.warning("%s; all that was committed is in it", problem)
        except StaleError:
            return self._bring_in()  # now that it is known
        except (H5fsError, OSError) as error:
            _log.error("the changes stay in the log beside the file: %s", error)
            return False
        except Exception:
            _log.exception("unexpected; the changes stay in the log beside the file")
            return False
        return True

    def _check_path(self) -> None:
        """Raise ``StaleError`` when what is written now would be seen by nobody, or be mixed with
        what somebody else wrote.

        At the end it all goes to the file, wherever that is.
        """
        if self._foreign_change:
            raise StaleError(f"{self._foreign_change}: unmount, and mount anew")
        problem = "" if self._is_ending else self._path_check.problem()
        if problem:
            raise StaleError(f"{problem}: what is written now would be lost")

    def _ask(self, method: str, *arguments: Any, **how: Any) -> Any:
        """Ask the worker; write no more once it says that another program has written the file."""
        self._lost.has_committed = self._lost.was_told = False
        try:
            return self._pool.call(method, *arguments, **how)
        except StaleError as error:
            self._foreign_change = self._foreign_change or str(error)
            raise

    def _logged_files(self) -> FileAndLog:
        assert self._file.logged is not None
        return self._file.logged

    def _keep_log_short(self) -> None:
        # As a rule the log ends with the last commit, of which the worker tells.
        if self._needs_room or self._state.last_commit()[1] > _MOST_LOG_BYTES:
            self._shorten_log(_MOST_LOG_BYTES)

    def _shorten_log(self, most_bytes: int) -> None:
        """Bring a log that is longer than that into the file. A failure does no harm."""
        log = self._logged_files().log
        if os.fstat(log).st_size <= most_bytes:
            self._needs_room = False
            return
        try:
            with self._state.checkpoint():
                if os.fstat(log).st_size > most_bytes:  # nobody else has done it meanwhile
                    self._needs_room = False
                    self._ask(
                        "shorten_log", subject=Subject(ROOT, b"checkpoint"), is_repeatable=False,
                        asked_bytes=os.fstat(log).st_size,
                    )  # fmt: skip
        except H5fsError as error:
            _log.warning("the log stays as it is: %s", error)

    def _start_clock(self) -> None:
        """Let there be a commit in time, where ``_changed_at`` is None. Under ``_noting``."""
        self._changed_at = time.monotonic()
        self._clock.notify_all()

    def _commit_now_and_then(self) -> None:
        said = ""
        while self._wait_for_time():
            try:
                self.commit()
                said = ""
            except H5fsError as error:
                if str(error) != said:  # it is tried again and again
                    said = str(error)
                    _log.error("%s", said)
            except Exception:  # whatever it is, the next commit must come
                _log.exception("unexpected; the commit is tried again")

    def _wait_for_time(self) -> bool:
        """Return when what was changed first is old enough; False when the store ends."""
        with self._clock:
            while not self._is_ending:
                if self._changed_at is None or self._commit_seconds is None:
                    self._clock.wait()
                    continue
                left = self._changed_at + self._commit_seconds - time.monotonic()
                if left <= 0:
                    return True
                self._clock.wait(left)
        return False
