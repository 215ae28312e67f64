"""The store of a mount that writes: changes are requests to the one worker that writes.

A change that comes alone is one request; those that come while the worker is busy share one, and
one commit (`change_queue`). Lives in the daemon. Safe to call from any thread.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from h5fs.errors import (
    H5fsError,
    LostChangesError,
    NoSpaceError,
    UnreadableError,
    show_path,
)
from h5fs.model.objects import Attribute, ObjectInfo, ObjectRef, Region
from h5fs.model.settings import StoreOptions
from h5fs.store.interface import ArrayFile, WritingObjectStore
from h5fs.store.library_interface import Uncopied
from h5fs.store.log.file_and_log import FileAndLog
from h5fs.store.log.system_calls import RealFile, make_zeros, write_all
from h5fs.store.repeating import ask_until_answered
from h5fs.store.worker_stores.change_queue import (
    MOST_BYTES,
    Answered,
    ChangeQueue,
    NotAnswered,
    Outcome,
)
from h5fs.store.worker_stores.held_objects import HeldObjects
from h5fs.store.worker_stores.logged_worker_store import ROOT, LoggedWorkerStore
from h5fs.store.worker_stores.worker_store import link_subject
from h5fs.store.workers.lending import Lender
from h5fs.store.workers.messages import CHANGES, Outcomes
from h5fs.store.workers.passing_on import passed_on
from h5fs.store.workers.quarantine import Subject
from h5fs.store.workers.shared_buffers import SharedBuffer
from h5fs.store.workers.starting.worker_starter import WorkerStarter

_log = logging.getLogger(__name__)

# What makes room and gives it back; nothing that a program wrote is lost with it.
_HOUSEKEEPING = frozenset({"reserve_array", "drop_array", "drop_nameless", "remove_hidden"})
# What takes long, or what a neighbour's failure would take away: reserved arrays go with a worker.
_ALONE = frozenset(
    {"reserve_array", "finish_array", "drop_array", "copy_object", "open_hidden", "remove_hidden"}
)
_MOST_SUSPECTS = 1000
_MOST_ELEMENTS = 1000  # of attributes that are written together with other changes


class _Change(Struct, frozen=True):
    """``is_mapped``: it writes what the kernel writes back of a map."""

    method: str
    arguments: tuple[Any, ...]
    subject: Subject
    shared_buffers: tuple[SharedBuffer, ...]
    size: int
    goes_alone: bool
    is_mapped: bool

    @property
    def descriptor_count(self) -> int:
        return len(self.shared_buffers)


def _named(group: ObjectRef, name: bytes, *_others: object) -> Subject:
    return Subject(group, name)


class WritingWorkerStore(LoggedWorkerStore):
    """Answers the questions of ``h5fs.store.interface.WritingStore``.

    ``_noting`` protects ``_suspects`` (subjects of changes that have failed alone, and go alone
    from then on), too.
    """

    def __init__(
        self, options: StoreOptions, files: FileAndLog, starter: WorkerStarter | None = None
    ) -> None:
        super().__init__(options, files, starter)
        self._lender = Lender(self._pool)
        self._held = HeldObjects(self._drop_nameless)
        self._hidden: ObjectRef | None = None
        self._queue: ChangeQueue[_Change] = ChangeQueue(self._make_together)
        self._suspects: set[Subject] = set()

    def open(self) -> None:
        """Open the mounted file. Raises ``CannotOpenError``, ``UnreadableError``."""
        super().open()
        # Not as a change: where there is nothing to take up, the file stays as it was.
        hidden: ObjectInfo | None = self._pool.call(
            "open_hidden", False, subject=Subject(ROOT, b"hidden"), is_repeatable=False
        )
        self._hidden = None if hidden is None else hidden.ref

    def _pass_change(self, method: str, arguments: tuple[Any, ...], subject: Subject) -> Any:
        return self._change(method, *arguments, about=subject)

    def _pass_creation(self, method: str, arguments: tuple[Any, ...], subject: Subject) -> Any:
        info: ObjectInfo | None = self._change(method, *arguments, about=subject)
        return info or self._target_of(*arguments[:2])

    def _pass_unlinking(self, method: str, arguments: tuple[Any, ...], subject: Subject) -> Any:
        with self._held.keeping() as opened:
            return self._change(method, *arguments, opened, about=subject)

    create_group = passed_on(WritingObjectStore.create_group, _pass_creation, _named)
    create_datatype = passed_on(WritingObjectStore.create_datatype, _pass_creation, _named)
    create_link = passed_on(WritingObjectStore.create_link, _pass_change, link_subject)
    delete_link = passed_on(WritingObjectStore.delete_link, _pass_unlinking, _named)
    move_link = passed_on(WritingObjectStore.move_link, _pass_unlinking, _named)
    reserve_array = passed_on(
        WritingObjectStore.reserve_array, _pass_change, lambda group, *_: Subject(group, b"reserve")
    )
    drop_array = passed_on(
        WritingObjectStore.drop_array, _pass_change, lambda _: Subject(ROOT, b"drop")
    )
    write_attributes = passed_on(
        WritingObjectStore.write_attributes, _pass_change, lambda ref, *_: Subject(ref)
    )
    find_missing = passed_on(
        WritingObjectStore.find_missing, LoggedWorkerStore._pass_on,
        lambda _: Subject(ROOT, b"targets"),
    )  # fmt: skip

    def write_array(self, group: ObjectRef, name: bytes, array: ArrayFile) -> ObjectInfo:
        if not array.is_read:
            return self._write_array(group, name, array)
        with self._held.keeping() as opened:
            old = self._target_of(group, name).ref.id
            array = structs.replace(array, is_read=old in opened)  # it may be closed by now
            return self._write_array(group, name, array)

    def _write_array(self, group: ObjectRef, name: bytes, array: ArrayFile) -> ObjectInfo:
        with self._lender.lend(array) as (shared_buffers, (new,)):
            info: ObjectInfo = self._change(
                "write_array", group, name, new, about=Subject(group, name),
                shared_buffers=shared_buffers, size=array.size_bytes,
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
        with _writing_region():
            write_all(RealFile(self._logged_files().main), data, region.file_offset + offset)

    def clear_region(self, region: Region, start: int, stop: int) -> None:
        self._check_path()
        at = region.file_offset
        with _writing_region():
            make_zeros(self._logged_files().main, at + start, at + stop)

    def read_region(self, region: Region, buffer: memoryview, offset: int) -> None:
        assert self._file.logged is not None
        count = os.preadv(self._file.logged.main, [buffer], region.file_offset + offset)
        buffer[count:] = bytes(len(buffer) - count)  # past the end of the file nothing was written

    def write_sequences(
        self, group: ObjectRef, name: bytes, values: ArrayFile, offsets: ArrayFile
    ) -> ObjectInfo:
        with (
            self._held.keeping() as opened,
            self._lender.lend(values, offsets) as (shared_buffers, new),
        ):
            info: ObjectInfo = self._change(
                "write_sequences", group, name, *new, opened, about=Subject(group, name),
                shared_buffers=shared_buffers, size=values.size_bytes + offsets.size_bytes,
            )  # fmt: skip
        return info

    def write_elements(
        self, ref: ObjectRef, offset: int, data: bytes, is_mapped: bool = False
    ) -> None:
        self._change(
            "write_elements", ref, offset, data, is_mapped, about=Subject(ref), size=len(data)
        )

    def change_array(
        self, ref: ObjectRef, array: ArrayFile, ranges: tuple[tuple[int, int], ...]
    ) -> bool:
        with self._lender.lend(array) as (shared_buffers, (new,)):
            is_done: bool = self._change(
                "change_array", ref, new, ranges, about=Subject(ref),
                shared_buffers=shared_buffers, size=sum(stop - start for start, stop in ranges),
            )  # fmt: skip
        return is_done

    def copy_object(
        self, file: Path, path: bytes, group: ObjectRef, name: bytes
    ) -> tuple[Uncopied, ...]:
        """Copy an object of another HDF5 file, as ``WritingLibraryStore.copy_object`` says."""
        uncopied: tuple[Uncopied, ...] = self._change(
            "copy_object", os.fsencode(os.path.realpath(file)), path, group, name,
            about=Subject(group, name or b"copy"), size=file.stat().st_size,
        )  # fmt: skip
        return uncopied

    def hold(self, ref: ObjectRef) -> None:
        self._held.hold(ref)

    def let_go(self, *refs: ObjectRef) -> None:
        self._held.let_go(*refs)

    def _drop_nameless(self, refs: Sequence[ObjectRef]) -> None:
        self._change("drop_nameless", tuple(ref.id for ref in refs), about=Subject(refs[0]))

    def hidden_group(self, *, makes: bool = True) -> ObjectRef | None:
        if self._hidden is None and makes:
            info: ObjectInfo = self._change("open_hidden", True, about=Subject(ROOT, b"hidden"))
            self._hidden = info.ref
        return self._hidden

    def remove_hidden(self) -> None:
        self._change("remove_hidden", about=Subject(ROOT, b"hidden"))
        self._hidden = None

    def _change(
        self,
        method: str,
        *arguments: Any,
        about: Subject,
        shared_buffers: tuple[SharedBuffer, ...] = (),
        size: int = 0,
    ) -> Any:
        # Of another name than those that are read: a change that fails leaves reading as it is.
        subject = Subject(about.ref, b"change " + (about.name or b""))
        with self._noting:
            self._unsynced_bytes += size
            if self._changed_at is None:
                self._start_clock()
            is_suspect = bool(self._suspects) and subject in self._suspects
        is_mapped = method == "write_elements" and bool(arguments[3])
        goes_alone = is_suspect or is_mapped or method in _ALONE or size > MOST_BYTES
        if method == "write_attributes":
            goes_alone = goes_alone or _are_large(arguments[1])

        self._quarantine.check(subject)
        if method not in _HOUSEKEEPING:
            self._check_path()
        change = _Change(method, arguments, subject, shared_buffers, size, goes_alone, is_mapped)
        result = self._queue.make(change, functools.partial(self._make_alone, change))
        with self._noting:
            if method not in _HOUSEKEEPING:
                self._uncommitted.note(size)
            if self._changed_at is None:  # the commit that stopped it may have been before this
                self._start_clock()
        self._keep_log_short()
        return result

    def _make_alone(self, change: _Change, may_be_done: bool) -> Any:
        """Let the worker make one change. Raises ``H5fsError``."""
        if self._needs_room:
            self._shorten_log(0)
        # What is mapped may go to where others read it, past the log.
        ask = functools.partial(
            self._ask_in_quiet if change.is_mapped else self._ask,
            change.method,
            *change.arguments,
            subject=change.subject,
            asked_bytes=change.size,
            shared_buffers=change.shared_buffers,
            is_repeatable=False,
        )
        try:
            return ask_until_answered(
                change.method, change.subject, ask, may_be_done=may_be_done,
                has_committed=lambda: self._lost.has_committed,
            )  # fmt: skip
        except LostChangesError as error:
            with self._noting:
                if len(self._suspects) >= _MOST_SUSPECTS:
                    self._suspects.clear()
                self._suspects.add(change.subject)
            return self._outcome_of_lost(change, error, may_be_done=may_be_done)

    def _ask_in_quiet(self, method: str, *arguments: Any, **how: Any) -> Any:
        """Ask the worker while nobody reads beside it."""
        with self._state.gate.closed():
            return self._ask(method, *arguments, **how)

    def _outcome_of_lost(
        self, change: _Change, error: LostChangesError, *, may_be_done: bool
    ) -> Any:
        """Return the result of a change whose worker failed after its commit; else raise."""
        if not self._state.is_known or (may_be_done and not self._lost.has_committed):
            raise type(error)(f"{error}; nobody knows whether the change is in the file") from None
        if not self._lost.has_committed:
            raise error
        _log.info("%s of %s is in the file: %s", change.method, change.subject.path, error)
        try:
            return self._read_back(change.method, change.arguments)
        except H5fsError as why:
            raise UnreadableError(
                f"{error}; but the change is in the file, and cannot be read back: {why}"
            ) from None

    def _read_back(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Ask what a change that is in the file has returned. Raises ``H5fsError``."""
        if method in ("write_array", "finish_array", "write_sequences"):
            return self._target_of(*arguments[:2])
        if method == "write_attributes":
            ref = arguments[0]
            info = self._pass_on("describe_object", (ref,), Subject(ref))
            return info, tuple(self.read_attributes(ref))
        if method in ("open_hidden", "reserve_array", "copy_object"):
            raise UnreadableError("what it has returned is lost")
        return method == "change_array" or None

    def _make_together(self, changes: Sequence[_Change]) -> list[Outcome]:
        """Let the worker make several changes by one commit.

        When the worker fails, none of them is to blame yet: each is made again alone, and the one
        that does it then is.
        """
        if self._needs_room:
            self._shorten_log(0)
        self._lost.has_committed = False
        try:
            outcomes: Outcomes = self._ask(
                CHANGES, *((change.method, change.arguments) for change in changes),
                subject=Subject(ROOT, b"several changes"), is_repeatable=False,
                asked_bytes=sum(change.size for change in changes),
                shared_buffers=tuple(each for change in changes for each in change.shared_buffers),
                on_failure=_blame_none,
            )  # fmt: skip
        except Exception as error:  # also one that only one of them is the cause of
            _log.info("%d changes are made one by one: %s", len(changes), error)
            done = error.note if isinstance(error, LostChangesError) else b""
            if len(done) != len(changes):
                done = bytes([True] * len(changes))
            return [NotAnswered(self._lost.has_committed and bool(each)) for each in done]
        return [
            NotAnswered(may_be_done=False)
            if outcome.goes_alone
            else Answered(outcome.result, outcome.refusal)
            for outcome in outcomes.each
        ]

    def _target_of(self, group: ObjectRef, name: bytes) -> ObjectInfo:
        target = self.get_link(group, name).target
        if target is None:
            raise UnreadableError(f"{show_path(name)} is no object")
        return target


def _are_large(attributes: tuple[Attribute, ...]) -> bool:
    """Whether attributes are too much to be sent with the changes of others."""
    if sum(len(each.elements) for each in attributes) > _MOST_ELEMENTS:
        return True
    sizes = (len(e) for each in attributes for e in each.elements if isinstance(e, bytes))
    return sum(sizes) > MOST_BYTES // 16


@contextmanager
def _writing_region() -> Iterator[None]:
    """Turn an ``OSError`` of writing to a reserved dataset's place into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(f"no room for an array: {error.strerror}") from None
        raise LostChangesError(f"writing an array: {error.strerror}") from None


def _blame_none(_note: bytes) -> None:
    raise UnreadableError("workers die before they begin")
