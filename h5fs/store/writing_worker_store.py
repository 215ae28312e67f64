"""The store of a mount that writes: one worker, and a clock that commits.

Lives in the daemon. Safe to call from any thread.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import logging
import os
import threading
import time
from collections import Counter
from typing import Any

from h5fs.errors import (
    H5fsError,
    LostChangesError,
    NoSpaceError,
    StaleError,
    UnreadableError,
    show_path,
)
from h5fs.model.objects import ObjectInfo, ObjectRef
from h5fs.model.settings import StoreOptions
from h5fs.store.interface import ArrayFile, Region, WritingObjectStore
from h5fs.store.log.log_file import LoggedFiles
from h5fs.store.log.uncommitted import Uncommitted
from h5fs.store.mounted_file import FileWithLog
from h5fs.store.path_check import PathCheck
from h5fs.store.repeating import ask_until_answered
from h5fs.store.statistics import StoreStatistics, UncommittedStatistics
from h5fs.store.worker_store import WorkerStore, link_subject
from h5fs.store.workers.lending import Lender
from h5fs.store.workers.passing_on import passed_on
from h5fs.store.workers.quarantine import Subject
from h5fs.store.workers.shared_buffers import SharedBuffer
from h5fs.store.workers.worker_starter import WorkerStarter

_log = logging.getLogger(__name__)

_ROOT = ObjectRef(0, 0, b"/")
# What makes room and gives it back; nothing that a program wrote is lost with it.
_HOUSEKEEPING = frozenset({"reserve_array", "drop_array", "drop_nameless", "remove_hidden"})


def _named(group: ObjectRef, name: bytes, *_others: object) -> Subject:
    return Subject(group, name)


class WritingWorkerStore(WorkerStore):
    """Answers the questions of ``h5fs.store.interface.WritingStore``.

    ``_clock`` (a condition) protects ``_changed_at``, ``_unsynced_bytes``, ``_uncommitted``,
    ``_is_ending``, ``_held`` (objects that programs have open, and how often) and
    ``_perhaps_nameless`` (those of them that a link may have been taken from); no call to a worker
    is made while it is held.
    """

    def __init__(
        self, options: StoreOptions, files: LoggedFiles, starter: WorkerStarter | None = None
    ) -> None:
        self._file = FileWithLog(options, files)
        super().__init__(options, starter, self._file)
        self._commit_seconds = options.commit_seconds
        self._boot_id = options.boot_id
        self._path_check = PathCheck(files.main, files.path)
        self._foreign_change = ""
        self._lender = Lender(self._pool)
        self._clock = threading.Condition()
        self._changed_at: float | None = None
        self._unsynced_bytes = 0
        self._uncommitted = Uncommitted()
        self._is_ending = False
        self._held: Counter[ObjectRef] = Counter()
        self._perhaps_nameless: set[ObjectRef] = set()
        self._hidden: ObjectRef | None = None
        self._timer = threading.Thread(target=self._commit_now_and_then, name="commit", daemon=True)

    def open(self) -> None:
        """Open the mounted file. Raises ``CannotOpenError``, ``UnreadableError``."""
        super().open()
        self._timer.start()
        # Not as a change: where there is nothing to take up, the file stays as it was.
        hidden: ObjectInfo | None = self._pool.call(
            "open_hidden", False, subject=Subject(_ROOT, b"hidden"), is_repeatable=False
        )
        self._hidden = None if hidden is None else hidden.ref

    def _pass_change(self, method: str, arguments: tuple[Any, ...], subject: Subject) -> Any:
        return self._change(method, *arguments, about=subject)

    def _pass_creation(self, method: str, arguments: tuple[Any, ...], subject: Subject) -> Any:
        info: ObjectInfo | None = self._change(method, *arguments, about=subject)
        return info or self._target_of(*arguments[:2])

    def _pass_unlinking(self, method: str, arguments: tuple[Any, ...], subject: Subject) -> Any:
        return self._change(method, *arguments, self._opened_objects(), about=subject)

    create_group = passed_on(WritingObjectStore.create_group, _pass_creation, _named)
    create_datatype = passed_on(WritingObjectStore.create_datatype, _pass_creation, _named)
    create_link = passed_on(WritingObjectStore.create_link, _pass_change, link_subject)
    delete_link = passed_on(WritingObjectStore.delete_link, _pass_unlinking, _named)
    move_link = passed_on(WritingObjectStore.move_link, _pass_unlinking, _named)
    reserve_array = passed_on(
        WritingObjectStore.reserve_array, _pass_change, lambda group, *_: Subject(group, b"reserve")
    )
    drop_array = passed_on(
        WritingObjectStore.drop_array, _pass_change, lambda _: Subject(_ROOT, b"drop")
    )
    write_attributes = passed_on(
        WritingObjectStore.write_attributes, _pass_change, lambda ref, *_: Subject(ref)
    )
    find_missing = passed_on(
        WritingObjectStore.find_missing, WorkerStore._pass_on, lambda _: Subject(_ROOT, b"targets")
    )

    def write_array(self, group: ObjectRef, name: bytes, array: ArrayFile) -> ObjectInfo:
        if array.is_read:
            self._opened_objects()
        with self._lender.lend(array) as (shared_buffers, (new,)):
            info: ObjectInfo = self._change(
                "write_array", group, name, new, about=Subject(group, name),
                shared_buffers=shared_buffers,
            )  # fmt: skip
        return info

    def finish_array(
        self, group: ObjectRef, name: bytes, region: Region, tail: bytes
    ) -> ObjectInfo:
        info: ObjectInfo = self._change(
            "finish_array", group, name, region, tail, about=Subject(group, name),
            size=region.size_bytes,
        )  # fmt: skip
        return info

    def write_region(self, region: Region, data: memoryview, offset: int) -> None:
        # Its space is committed as taken, so that no worker, this one or the next, gives it away.
        # But the file may have become another program's since.
        self._check_path()
        assert self._file.logged is not None
        at = region.file_offset + offset
        try:
            while data:
                count = os.pwrite(self._file.logged.main, data, at)
                data, at = data[count:], at + count
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(f"no room for an array: {error.strerror}") from None
            raise LostChangesError(f"writing an array: {error.strerror}") from None

    def read_region(self, region: Region, buffer: memoryview, offset: int) -> None:
        assert self._file.logged is not None
        count = os.preadv(self._file.logged.main, [buffer], region.file_offset + offset)
        buffer[count:] = bytes(len(buffer) - count)  # past the end of the file nothing was written

    def write_sequences(
        self, group: ObjectRef, name: bytes, values: ArrayFile, offsets: ArrayFile
    ) -> ObjectInfo:
        opened = self._opened_objects()
        with self._lender.lend(values, offsets) as (shared_buffers, new):
            info: ObjectInfo = self._change(
                "write_sequences", group, name, *new, opened, about=Subject(group, name),
                shared_buffers=shared_buffers,
            )  # fmt: skip
        return info

    def write_elements(self, ref: ObjectRef, offset: int, data: bytes) -> None:
        self._change("write_elements", ref, offset, data, about=Subject(ref), size=len(data))

    def change_array(
        self, ref: ObjectRef, array: ArrayFile, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        with self._lender.lend(array) as (shared_buffers, (new,)):
            is_done: bool = self._change(
                "change_array", ref, new, ranges, about=Subject(ref), shared_buffers=shared_buffers
            )
        return is_done

    def hold(self, ref: ObjectRef) -> None:
        with self._clock:
            self._held[ref] += 1

    def let_go(self, ref: ObjectRef) -> None:
        with self._clock:
            self._held[ref] -= 1
            if self._held[ref] > 0:
                return
            del self._held[ref]
            if ref not in self._perhaps_nameless:
                return
            self._perhaps_nameless.discard(ref)
        self._change("drop_nameless", ref.id, about=Subject(ref))

    def hidden_group(self, *, makes: bool = True) -> ObjectRef | None:
        if self._hidden is None and makes:
            info: ObjectInfo = self._change("open_hidden", True, about=Subject(_ROOT, b"hidden"))
            self._hidden = info.ref
        return self._hidden

    def remove_hidden(self) -> None:
        self._change("remove_hidden", about=Subject(_ROOT, b"hidden"))
        self._hidden = None

    def _opened_objects(self) -> tuple[int, ...]:
        """Return the ids of the objects that programs have open, before a link goes."""
        with self._clock:
            self._perhaps_nameless.update(self._held)
            return tuple(ref.id for ref in self._held)

    def commit(self, is_checkpoint: bool = False) -> None:
        with self._clock:
            size, self._unsynced_bytes = self._unsynced_bytes, 0
            self._changed_at = None
            changes = self._uncommitted.begin()
        try:
            if os.fstat(self._logged_files().log).st_size:
                self._check_path()
            ask = functools.partial(
                self._ask, "commit", is_checkpoint, subject=Subject(_ROOT, b"commit"),
                asked_bytes=size, is_repeatable=False,
            )  # fmt: skip
            ask_until_answered("commit", "the file", ask)
        except H5fsError:
            with self._clock:
                self._unsynced_bytes += size
                self._uncommitted.fail(changes)
                self._start_clock()  # which tries again
            raise
        with self._clock:
            self._uncommitted.end(changes)

    def statistics(self) -> StoreStatistics:
        with self._clock:
            changes = self._uncommitted.total()
        age = None if changes.since is None else time.monotonic() - changes.since
        logged = self._file.logged
        log_bytes = os.fstat(logged.log).st_size if logged is not None else 0
        uncommitted = UncommittedStatistics(changes.count, changes.size_bytes, age, log_bytes)
        return dataclasses.replace(super().statistics(), uncommitted=uncommitted)

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
                kept = files.save_content(self._boot_id)
                _log.error("%s; its content is kept as %s", self._path_check.problem(), kept)
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
        try:
            return self._pool.call(method, *arguments, **how)
        except StaleError as error:
            self._foreign_change = self._foreign_change or str(error)
            raise

    def _target_of(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        target = self.get_link(group, name).target
        if target is None:
            raise UnreadableError(f"{show_path(name)} is no object")
        return target

    def _logged_files(self) -> LoggedFiles:
        assert self._file.logged is not None
        return self._file.logged

    def _change(
        self,
        method: str,
        *arguments: Any,
        about: Subject,
        shared_buffers: tuple[SharedBuffer, ...] = (),
        size: int = 0,
    ) -> Any:
        size += sum(shared_buffer.size_bytes for shared_buffer in shared_buffers)
        with self._clock:
            self._unsynced_bytes += size
            self._start_clock()
        # Of another name than those that are read: a change that fails leaves reading as it is.
        subject = Subject(about.ref, b"change " + (about.name or b""))

        if method not in _HOUSEKEEPING:
            self._check_path()
        ask = functools.partial(
            self._ask,
            method,
            *arguments,
            subject=subject,
            asked_bytes=size,
            shared_buffers=shared_buffers,
            is_repeatable=False,
        )
        result = ask_until_answered(method, subject.path, ask)
        with self._clock:
            if method not in _HOUSEKEEPING:
                self._uncommitted.note(size)
            self._start_clock()  # once more: the commit that stopped it may have been before this
        return result

    def _start_clock(self) -> None:
        """Let there be a commit in time. Under ``_clock``."""
        if self._changed_at is None:
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

