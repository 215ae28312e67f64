"""Closings: what `close` and `fsync` commit, and what the last `close` lets go.

Under the tree's lock.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from h5fs.errors import (
    EmptiedError,
    H5fsError,
    InvalidArrayError,
    InvalidAttributesError,
    show_path,
)
from h5fs.store.interface import WritingStore
from h5fs.tree.writing.commits import Commits
from h5fs.tree.writing.committing.draft_to_object import IncompleteError
from h5fs.tree.writing.keeper import Keeper
from h5fs.tree.writing.opened_files import OpenedFile
from h5fs.tree.writing.pending.changes_in_flight import ChangesInFlight
from h5fs.tree.writing.pending.pending import Pending
from h5fs.tree.writing.pending.writable_file import WritableFile
from h5fs.tree.writing.removals import Removals

_log = logging.getLogger(__name__)


class Closings:
    """Decides what a file that is not complete means: an error, a wait, or nothing yet."""

    def __init__(
        self, store: WritingStore, pending: Pending, keeper: Keeper, commits: Commits,
        removals: Removals, in_flight: ChangesInFlight, *, commits_at_close: bool,
    ) -> None:  # fmt: skip
        self._store = store
        self._pending = pending
        self._keeper = keeper
        self._commits = commits
        self._removals = removals
        self._in_flight = in_flight
        self._commits_at_close = commits_at_close

    def flush(self, opened: OpenedFile, pid: int) -> None:
        """Answer ``close`` of one of a handle's descriptors: what was written is committed.

        A file that is not complete is an error for the process that opened it; another one (a
        command that a shell started) has a successor that goes on.
        """
        file = opened.file
        if file is None or not opened.writes:
            return
        if not file.is_changed:
            file.is_closed = True
            return
        if file.is_gone and not file.has_other_names:
            return
        is_new = file.node is None and self._keeper.shared_dataset(file) is None
        if is_new and not file.size_bytes and file.failure is None:
            return  # a new file with nothing in it yet
        if not file.size_bytes and file.failure is None:
            raise EmptiedError(f"{show_path(file.path)} is empty; what there was stays")
        try:
            self._commits.commit(file)
        except IncompleteError as error:
            if file.failure is not None:
                raise file.failure from None
            if pid not in (0, opened.pid):
                return
            if not error.has_data and file.size_bytes:
                return  # a header, whose data somebody will map
            raise
        file.is_closed = not file.is_dirty
        if self._commits_at_close:
            with self._in_flight.waiting(file.path, file, is_alone=True):
                self._store.commit(False)

    def release(self, opened: OpenedFile) -> None:
        """A handle is gone, by its last `close`: so is what was there for it alone.

        Where that is to be committed still (``is_to_commit``), the call must be alone.
        """
        try:
            if opened.file is not None and not opened.file.opened:
                self._end(opened.file)
        finally:
            if opened.held is not None:
                self._store.let_go(opened.held)

    def is_to_commit(self, opened: OpenedFile) -> bool:
        """Whether a handle is the last one of a file that is not committed, nor kept until it can
        be, with nothing that others have."""
        file = opened.file
        if file is None or file.opened > 1 or not file.is_changed or file.is_gone:
            return False
        return file.may_refer or not file.is_kept

    def sync(self, opened: OpenedFile) -> None:
        """Commit what was written, if it is a whole file.

        What is not (``dd oflag=sync`` asks after each block) is for `close` to judge.
        """
        if opened.file is not None:
            with suppress(IncompleteError):
                self._commits.commit(opened.file)

    def end_truncate(self, file: WritableFile) -> None:
        """A file that was being written has been cut by its path: it may be whole now."""
        if not file.opened:
            # Else its last `close` tells. What is not whole now was not before.
            with suppress(InvalidArrayError, InvalidAttributesError):
                self._commits.commit(file)

    def _end(self, file: WritableFile) -> None:
        if file.is_gone:
            self._removals.drop(file)
            return
        if file.is_changed:
            try:
                self._commits.commit(file)
            except H5fsError as error:
                is_header = isinstance(error, IncompleteError) and not error.has_data
                is_new = file.node is None and self._keeper.shared_dataset(file) is None
                if is_new or (is_header and file.size_bytes):
                    return  # it waits for the rest
                _log.warning("%s stays as it was: %s", show_path(file.path), error)
                self._pending.refused.note(file, str(file.failure or error))
                file.discard()
        if file.held is not None and not file.is_dirty:
            file.discard()  # it reads as its other names do
        if file.node is not None:
            file.discard()
            self._keeper.forget(file)
            self._pending.end_editing(file)
