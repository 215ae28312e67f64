"""The store of a mount that writes: one worker, and a clock that commits.

Lives in the daemon. Safe to call from any thread.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from h5fs.datatypes import Datatype
from h5fs.errors import ChangeFailedError, H5fsError, LostChangesError, NoSpaceError
from h5fs.objects import Attribute, Link, ObjectInfo, ObjectRef
from h5fs.options import StoreOptions
from h5fs.store.interface import ArrayFile, NewArray, Region
from h5fs.store.log_file import LoggedFiles
from h5fs.store.process.nursery import Nursery
from h5fs.store.process.quarantine import Suspect
from h5fs.store.process.segments import Segment
from h5fs.store.remote_store import RemoteStore
from h5fs.store.statistics import StoreStatistics, UncommittedStatistics
from h5fs.store.uncommitted import Uncommitted

_log = logging.getLogger(__name__)

_ROOT = ObjectRef(0, 0, b"/")
# What makes room and gives it back; nothing that a program wrote is lost with it.
_HOUSEKEEPING = frozenset({"reserve_array", "drop_array", "let_go"})
_FIRST_SEGMENT = 1 << 40  # those of decoded chunks count from 0


class WritingRemoteStore(RemoteStore):
    """Answers the questions of ``h5fs.store.interface.WritingStore``.

    ``_clock`` (a condition) protects ``_changed_at``, ``_unsynced_bytes``, ``_uncommitted`` and
    ``_is_ending``; no call to a worker is made while it is held.
    """

    def __init__(
        self, options: StoreOptions, files: LoggedFiles, nursery: Nursery | None = None
    ) -> None:
        super().__init__(options, nursery, files)
        self._commit_seconds = options.commit_seconds
        self._segment_numbers = itertools.count(_FIRST_SEGMENT)
        self._clock = threading.Condition()
        self._changed_at: float | None = None
        self._unsynced_bytes = 0
        self._uncommitted = Uncommitted()
        self._is_ending = False
        self._timer = threading.Thread(target=self._commit_now_and_then, name="commit", daemon=True)

    def open(self) -> None:
        """Open the mounted file. Raises ``CannotOpenError``, ``UnreadableError``."""
        super().open()
        self._timer.start()

    def create_group(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        info: ObjectInfo = self._change("create_group", group, name, about=(group, name))
        return info

    def create_datatype(self, group: ObjectRef, name: bytes, datatype: Datatype) -> ObjectInfo:
        info: ObjectInfo = self._change(
            "create_datatype", group, name, datatype, about=(group, name)
        )
        return info

    def create_link(self, group: ObjectRef, link: Link) -> None:
        self._change("create_link", group, link, about=(group, link.name))

    def delete_link(self, group: ObjectRef, name: bytes) -> None:
        self._change("delete_link", group, name, about=(group, name))

    def move_link(
        self, group: ObjectRef, name: bytes, new_group: ObjectRef, new_name: bytes
    ) -> None:
        self._change("move_link", group, name, new_group, new_name, about=(group, name))

    def write_array(self, group: ObjectRef, name: bytes, array: ArrayFile) -> ObjectInfo:
        with self._lent(array) as (segments, (new,)):
            info: ObjectInfo = self._change(
                "write_array", group, name, new, about=(group, name), segments=segments
            )
        return info

    def reserve_array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Region | None:
        found = self._change("reserve_array", shape, dtype, about=(_ROOT, b"reserve"))
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
        with self._lent(values, offsets) as (segments, new):
            info: ObjectInfo = self._change(
                "write_sequences", group, name, *new, about=(group, name), segments=segments
            )
        return info

    def write_elements(self, ref: ObjectRef, offset: int, data: bytes) -> None:
        self._change("write_elements", ref, offset, data, about=(ref, b""), size=len(data))

    def change_array(
        self, ref: ObjectRef, array: ArrayFile, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        with self._lent(array) as (segments, (new,)):
            is_done: bool = self._change(
                "change_array", ref, new, ranges, about=(ref, b""), segments=segments
            )
        return is_done

    def write_attributes(
        self, ref: ObjectRef, attributes: tuple[Attribute, ...], gone: tuple[bytes, ...]
    ) -> None:
        self._change("write_attributes", ref, attributes, gone, about=(ref, b""))

    def hold(self, ref: ObjectRef) -> None:
        self._pool.call("hold", ref, suspect=Suspect(ref))

    def let_go(self, ref: ObjectRef) -> None:
        self._change("let_go", ref, about=(ref, b""))

    def commit(self, is_checkpoint: bool = False) -> None:
        with self._clock:
            size, self._unsynced_bytes = self._unsynced_bytes, 0
            self._changed_at = None
            changes = self._uncommitted.begin()
        try:
            self._pool.call(
                "commit", is_checkpoint, suspect=Suspect(_ROOT, b"commit"), asked_bytes=size,
                is_repeatable=False,
            )  # fmt: skip
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
        is_clean = False
        if self._timer.ident is not None:
            self._timer.join()
            try:
                self.commit(is_checkpoint=True)
                is_clean = True
            except H5fsError as error:
                _log.error("the changes stay in the log beside the file: %s", error)
            except Exception:
                _log.exception("unexpected; the changes stay in the log beside the file")
        self._removes_log = is_clean
        super().close()

    def _change(
        self,
        method: str,
        *arguments: Any,
        about: tuple[ObjectRef, bytes],
        segments: tuple[Segment, ...] = (),
        size: int = 0,
    ) -> Any:
        size += sum(segment.size_bytes for segment in segments)
        with self._clock:
            self._unsynced_bytes += size
            self._start_clock()
        # Of another name than those that are read: a change that fails leaves reading as it is.
        suspect = Suspect(about[0], b"change " + about[1])

        def ask() -> Any:
            return self._pool.call(
                method, *arguments, suspect=suspect, asked_bytes=size, segments=segments,
                is_repeatable=False,
            )  # fmt: skip

        try:
            result = ask()
        except ChangeFailedError as error:
            # What the library kept of objects that are gone can be in the way of new ones. The next
            # worker begins at the last commit, with nothing kept.
            _log.info("%s of %s once more: %s", method, suspect.path, error)
            result = ask()
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
    ) -> Iterator[tuple[tuple[Segment, ...], tuple[NewArray, ...]]]:
        """Yield the files of arrays as segments that the worker may map, and what is in them."""
        numbers = [next(self._segment_numbers) for _ in arrays]
        segments = tuple(
            Segment(number, array.descriptor, array.size_bytes, is_on_disk=True)
            for number, array in zip(numbers, arrays, strict=True)
        )
        try:
            yield segments, tuple(
                NewArray(
                    array.shape, array.dtype, array.is_fortran_order, array.data_start, number,
                    array.is_read,
                )
                for number, array in zip(numbers, arrays, strict=True)
            )  # fmt: skip
        finally:
            for segment in segments:
                self._pool.forget_segment(segment)

    def _commit_now_and_then(self) -> None:
        while self._wait_for_time():
            try:
                self.commit()
            except H5fsError as error:
                _log.error("%s", error)
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

