"""The store of a mount that writes: one worker, and a clock that commits.

Lives in the daemon. Safe to call from any thread.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import itertools
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from h5fs.errors import (
    H5fsError,
    LostChangesError,
    NoSpaceError,
    StaleError,
    UnreadableError,
    show_path,
)
from h5fs.model.datatypes import Datatype
from h5fs.model.objects import Attribute, Link, ObjectInfo, ObjectRef
from h5fs.model.settings import StoreOptions
from h5fs.store.interface import ArrayFile, NewArray, Region
from h5fs.store.log.log_file import LoggedFiles
from h5fs.store.log.uncommitted import Uncommitted
from h5fs.store.place import Place
from h5fs.store.repeating import ask_until_answered
from h5fs.store.statistics import StoreStatistics, UncommittedStatistics
from h5fs.store.worker_store import WorkerStore
from h5fs.store.workers.quarantine import Subject
from h5fs.store.workers.shared_buffers import SharedBuffer
from h5fs.store.workers.worker_starter import WorkerStarter

_log = logging.getLogger(__name__)

_ROOT = ObjectRef(0, 0, b"/")
# What makes room and gives it back; nothing that a program wrote is lost with it.
_HOUSEKEEPING = frozenset({"reserve_array", "drop_array", "drop_nameless", "remove_hidden"})
_FIRST_SHARED_BUFFER = 1 << 40  # those of decoded chunks count from 0


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
        super().__init__(options, starter, files)
        self._commit_seconds = options.commit_seconds
        self._boot_id = options.boot_id
        self._place = Place(files.main, files.path)
        self._foreign_change = ""
        self._shared_buffer_numbers = itertools.count(_FIRST_SHARED_BUFFER)
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

    def create_group(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        info: ObjectInfo | None = self._change("create_group", group, name, about=(group, name))
        return info or self._target_of(group, name)

    def create_datatype(self, group: ObjectRef, name: bytes, datatype: Datatype) -> ObjectInfo:
        info: ObjectInfo | None = self._change(
            "create_datatype", group, name, datatype, about=(group, name)
        )
        return info or self._target_of(group, name)

    def create_link(self, group: ObjectRef, link: Link) -> None:
        self._change("create_link", group, link, about=(group, link.name))

    def delete_link(self, group: ObjectRef, name: bytes) -> None:
        opened = self._opened_objects()
        self._change("delete_link", group, name, opened, about=(group, name))

    def move_link(
        self, group: ObjectRef, name: bytes, new_group: ObjectRef, new_name: bytes
    ) -> None:
        opened = self._opened_objects()
        self._change("move_link", group, name, new_group, new_name, opened, about=(group, name))

    def write_array(self, group: ObjectRef, name: bytes, array: ArrayFile) -> ObjectInfo:
        if array.is_read:
            self._opened_objects()
        with self._lent(array) as (shared_buffers, (new,)):
            info: ObjectInfo = self._change(
                "write_array", group, name, new, about=(group, name), shared_buffers=shared_buffers
            )
        return info

    def reserve_array(
        self, group: ObjectRef, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Region | None:
        found = self._change("reserve_array", group, shape, dtype, about=(group, b"reserve"))
        return None if found is None else Region(*found)

    def finish_array(
        self, group: ObjectRef, name: bytes, region: Region, tail: bytes
    ) -> ObjectInfo:
        info: ObjectInfo = self._change(
            "finish_array", group, name, region.number, tail, about=(group, name),
            size=region.size_bytes,
        )  # fmt: skip
        return info

    def drop_array(self, region: Region) -> None:
        self._change("drop_array", region.number, about=(_ROOT, b"drop"))

    def write_region(self, region: Region, data: memoryview, offset: int) -> None:
        # Its space is committed as taken, so that no worker, this one or the next, gives it away.
        assert self._logged is not None
        at = region.file_offset + offset
        try:
            while data:
                count = os.pwrite(self._logged.main, data, at)
                data, at = data[count:], at + count
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError(f"no room for an array: {error.strerror}") from None
            raise LostChangesError(f"writing an array: {error.strerror}") from None

    def read_region(self, region: Region, buffer: memoryview, offset: int) -> None:
        assert self._logged is not None
        count = os.preadv(self._logged.main, [buffer], region.file_offset + offset)
        buffer[count:] = bytes(len(buffer) - count)  # past the end of the file nothing was written

    def write_sequences(
        self, group: ObjectRef, name: bytes, values: ArrayFile, offsets: ArrayFile
    ) -> ObjectInfo:
        opened = self._opened_objects()
        with self._lent(values, offsets) as (shared_buffers, new):
            info: ObjectInfo = self._change(
                "write_sequences", group, name, *new, opened, about=(group, name),
                shared_buffers=shared_buffers,
            )  # fmt: skip
        return info

    def write_elements(self, ref: ObjectRef, offset: int, data: bytes) -> None:
        self._change("write_elements", ref, offset, data, about=(ref, b""), size=len(data))

    def change_array(
        self, ref: ObjectRef, array: ArrayFile, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        with self._lent(array) as (shared_buffers, (new,)):
            is_done: bool = self._change(
                "change_array", ref, new, ranges, about=(ref, b""), shared_buffers=shared_buffers
            )
        return is_done

    def write_attributes(
        self, ref: ObjectRef, attributes: tuple[Attribute, ...], gone: tuple[bytes, ...]
    ) -> None:
        self._change("write_attributes", ref, attributes, gone, about=(ref, b""))

    def find_missing(self, paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
        missing: tuple[bytes, ...] = self._pool.call(
            "find_missing", paths, subject=Subject(_ROOT, b"targets")
        )
        return missing

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
        self._change("drop_nameless", ref.address, about=(ref, b""))

    def hidden_group(self, *, makes: bool = True) -> ObjectRef | None:
        if self._hidden is None and makes:
            info: ObjectInfo = self._change("open_hidden", True, about=(_ROOT, b"hidden"))
            self._hidden = info.ref
        return self._hidden

    def remove_hidden(self) -> None:
        self._change("remove_hidden", about=(_ROOT, b"hidden"))
        self._hidden = None

    def _opened_objects(self) -> tuple[int, ...]:
        """Return the addresses of the objects that programs have open, before a link goes."""
        with self._clock:
            self._perhaps_nameless.update(self._held)
            return tuple(ref.address for ref in self._held)

    def commit(self, is_checkpoint: bool = False) -> None:
        with self._clock:
            size, self._unsynced_bytes = self._unsynced_bytes, 0
            self._changed_at = None
            changes = self._uncommitted.begin()
        try:
            if os.fstat(self._logged_files().log).st_size:
                self._check_place()
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
        logged = self._logged
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
            self._removes_log = self._bring_in()
        super().close()

    def _bring_in(self) -> bool:
        """Bring all that is committed to where it belongs; return whether the log may go."""
        files = self._logged_files()
        has_content = os.fstat(files.log).st_size > 0
        try:
            if self._foreign_change and has_content:
                aside = files.keep_log_aside()
                _log.error("%s; what the log has is kept as %s", self._foreign_change, aside)
            elif self._place.is_gone() and has_content:
                left = files.save_content(self._boot_id)
                _log.error("%s; its content is kept as %s", self._place.problem(), left)
            elif not self._foreign_change and not self._place.is_gone():
                self.commit(is_checkpoint=True)
                if has_content and (problem := self._place.problem()):
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

    def _check_place(self) -> None:
        """Raise ``StaleError`` when what is written now would be seen by nobody, or be mixed with
        what somebody else wrote.

        At the end it all goes to the file, wherever that is.
        """
        if self._foreign_change:
            raise StaleError(f"{self._foreign_change}: unmount, and mount anew")
        problem = "" if self._is_ending else self._place.problem()
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
        assert self._logged is not None
        return self._logged

    def _change(
        self,
        method: str,
        *arguments: Any,
        about: tuple[ObjectRef, bytes],
        shared_buffers: tuple[SharedBuffer, ...] = (),
        size: int = 0,
    ) -> Any:
        size += sum(shared_buffer.size_bytes for shared_buffer in shared_buffers)
        with self._clock:
            self._unsynced_bytes += size
            self._start_clock()
        # Of another name than those that are read: a change that fails leaves reading as it is.
        subject = Subject(about[0], b"change " + about[1])

        if method not in _HOUSEKEEPING:
            self._check_place()
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

    @contextmanager
    def _lent(
        self, *arrays: ArrayFile
    ) -> Iterator[tuple[tuple[SharedBuffer, ...], tuple[NewArray, ...]]]:
        """Yield the files of arrays as shared buffers that the worker may map, and what is in
        them."""
        numbers = [next(self._shared_buffer_numbers) for _ in arrays]
        shared_buffers = tuple(
            SharedBuffer(number, array.descriptor, array.size_bytes, is_on_disk=True)
            for number, array in zip(numbers, arrays, strict=True)
        )
        try:
            yield shared_buffers, tuple(
                NewArray(
                    array.shape, array.dtype, array.is_fortran_order, array.data_start, number,
                    array.is_read,
                )
                for number, array in zip(numbers, arrays, strict=True)
            )  # fmt: skip
        finally:
            for shared_buffer in shared_buffers:
                self._pool.forget_shared_buffer(shared_buffer)

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

