"""Files that programs write, from `write` to the last `close`."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress

from h5fs.errors import (
    BadHandleError,
    EmptiedError,
    H5fsError,
    InvalidArrayError,
    InvalidAttributesError,
    NoSpaceError,
    show_path,
)
from h5fs.model.file_status import FileStatus
from h5fs.projection.names import Projection
from h5fs.tree.content import ArrayContent
from h5fs.tree.nodes import NodeKind
from h5fs.tree.statistics import TreeStatistics
from h5fs.tree.writing.committing import (
    IncompleteError,
)
from h5fs.tree.writing.direct_arrays import try_direct_array
from h5fs.tree.writing.leftovers import keep_leftovers
from h5fs.tree.writing.settling import SettlingTree
from h5fs.tree.writing.writable_file import WritableFile

_log = logging.getLogger(__name__)

_HEADER_BYTES = 128  # of nearly all .npy files; the data of others go by way of a draft


class DraftingTree(SettlingTree):
    """Writing to files; ``changes`` has what happens to names."""

    def write(self, handle: int, data: memoryview, offset: int) -> None:
        """Answer ``write``: in place, or into the file's draft."""
        with self._lock:
            file = self._file_of(handle)
            file.mtime_ns = time.time_ns()
            if file.draft is None and isinstance(file.content, ArrayContent):
                data, offset = self._skip_header(file.content, data, offset)
                if self._write_in_place(file, file.content, data, offset):
                    return
            if not data:
                return
            draft = file.begin(empty=False)
            try:
                draft.write(data, offset)
            except NoSpaceError as error:
                file.failure = error
                raise
            if not file.was_offered and draft.size_bytes >= _HEADER_BYTES:
                self._offer_direct_array(file)

    def truncate(self, path: bytes | None, size: int, handle: int | None) -> None:
        """Answer ``truncate`` and ``ftruncate``."""
        with self._lock:
            if handle is not None:
                file = self._file_of(handle)
                if size != file.size_bytes:
                    file.begin(empty=size == 0).truncate(size)
                    file.mtime_ns = time.time_ns()
                return
            assert path is not None
            being_written = self._being_written(path)
            if being_written is None:
                self._truncate_committed(path, size)
                return
            being_written.begin(empty=size == 0).truncate(size)
            being_written.mtime_ns = time.time_ns()
            if not being_written.opened:
                # Else its last `close` tells. What is not whole now was not before.
                with suppress(InvalidArrayError, InvalidAttributesError):
                    self._commit_file(being_written)

    def _being_written(self, path: bytes) -> WritableFile | None:
        """Return the file at a path if it has something that the HDF5 file does not have."""
        file = self._pending.staged(path)
        if file is not None or self._pending.scratch(path) is not None:
            return file
        node = self.lookup.find(path)
        edited = self._pending.edited(node)
        return edited if edited is not None and edited.draft is not None else None

    def _truncate_committed(self, path: bytes, size: int) -> None:
        """Cut a file that the HDF5 file has; it stays as it was where it cannot be so long."""
        handle = self.open(path, os.O_WRONLY)
        file = self._file_of(handle)
        try:
            self.truncate(None, size, handle)
            self.flush(handle, 0)
        except H5fsError:
            file.discard()  # others may have it open
            raise
        finally:
            self.release(handle)

    def flush(self, handle: int, pid: int) -> None:
        """Answer ``close`` of one of a handle's descriptors: what was written is committed.

        A file that is not complete is an error for the process that opened it; another one (a
        command that a shell started) has a successor that goes on.
        """
        with self._lock:
            opened = self._handle(handle)
            file = opened.file
            if file is None or not opened.writes or not file.is_changed or file.is_gone:
                return
            if file.node is None and not file.size_bytes and file.failure is None:
                return  # a new file with nothing in it yet
            if not file.size_bytes and file.failure is None:
                raise EmptiedError(f"{show_path(file.path)} is empty; what there was stays")
            try:
                self._commit_file(file)
            except IncompleteError as error:
                if file.failure is not None:
                    raise file.failure from None
                if pid not in (0, opened.pid):
                    return
                if not error.has_data and file.size_bytes:
                    return  # a header, whose data somebody will map
                raise
            if self._commits_at_close:
                self._writer.commit(False)

    def release(self, handle: int) -> None:
        with self._lock:
            opened = self._handle(handle)
            del self._open_handles[handle]
            file = opened.file
            try:
                if file is not None:
                    self._release_file(file)
            finally:
                if opened.held is not None:
                    self._writer.let_go(opened.held)

    def fsync(self, handle: int) -> None:
        """Answer ``fsync``: what was written survives a power cut, if it is a whole file.

        What is not (``dd oflag=sync`` asks after each block) is for ``close`` to judge.
        """
        with self._lock:
            opened = self._handle(handle)
            if opened.file is not None:
                with suppress(IncompleteError):
                    self._commit_file(opened.file)
        self._writer.commit(False)

    def statistics(self) -> TreeStatistics:
        drafts = self._pending.drafts()
        return TreeStatistics(
            self._store.statistics(), len(self._open_handles), len(drafts),
            sum(draft.written_bytes for draft in drafts),
        )  # fmt: skip

    def close(self) -> None:
        with self._lock:
            for file in self._pending.edited_files():
                if file.is_changed:
                    self._try_to_commit(file)
            for file in self._pending.staged_files():
                self._try_to_commit(file)
            for path in self._pending.hidden_paths():
                self._end_hiding(path)
            self._end_waiting()
            keep_leftovers(
                self._leftovers, self._pending.staged_files(), self._pending.scratch_links(),
                self._known_status_of_file(),
            )  # fmt: skip
            self._remove_hidden()
        super().close()

    def _end_waiting(self) -> None:
        for file in self._pending.staged_files():
            try:
                self._apply_in_part(file)
            except H5fsError as error:
                _log.warning("%s: %s", show_path(file.path), error)

    def _remove_hidden(self) -> None:
        try:
            self._writer.remove_hidden()
        except H5fsError as error:
            _log.error("the next mount that writes removes what was kept: %s", error)

    def _known_status_of_file(self) -> FileStatus | None:
        try:
            return self.lookup.status_of_file(0)
        except H5fsError as error:
            _log.warning("the HDF5 file's owner and mode are not known: %s", error)
            return None

    def _file_of(self, handle: int) -> WritableFile:
        file = self._handle(handle).file
        if file is None:
            raise BadHandleError(f"file handle {handle} is open to read only")
        return file

    def _offer_direct_array(self, file: WritableFile) -> None:
        """Let the data of a large new array go to the HDF5 file as they come."""
        file.was_offered = True
        meaning = self._place(file.path)[1]
        is_array = meaning is not None and meaning.projection is Projection.ARRAY
        if file.node is not None or file.is_gone or not is_array or file.draft is None:
            return
        status = self._store.file_system_status()
        room = status.available_fragments * status.fragment_bytes
        group = self.lookup.find_folder(file.path.rpartition(b"/")[0] or b"/").info.ref
        direct = try_direct_array(self._writer, group, file.draft.read(0, _HEADER_BYTES), room)
        if direct is not None:
            file.draft.send_to(direct)

    def _skip_header(
        self, content: ArrayContent, data: memoryview, offset: int
    ) -> tuple[memoryview, int]:
        """Leave out what writes the header as it is: a page that was mapped comes back whole."""
        header = content.npy.header
        part = header[offset : offset + len(data)]
        if part and data[: len(part)] == part:
            return data[len(part) :], offset + len(part)
        return data, offset

    def _write_in_place(
        self, file: WritableFile, content: ArrayContent, data: memoryview, offset: int
    ) -> bool:
        start = len(content.npy.header)
        is_inside = start <= offset and offset + len(data) <= content.size_bytes
        # How wide text is follows from all elements: it takes a new array.
        is_lost = file.is_gone and not file.has_other_names
        if not is_inside or content.dataset.is_scanned or is_lost:
            return False
        if data:
            self._writer.write_elements(content.ref, offset - start, bytes(data))
            assert file.node is not None
            self._pending.set_times(file.node.inode, file.mtime_ns, file.mtime_ns)
        return True

    def _release_file(self, file: WritableFile) -> None:
        file.opened -= 1
        if file.opened:
            return
        if file.is_gone:
            self._drop(file)
            return
        if file.is_changed:
            try:
                self._commit_file(file)
            except IncompleteError as error:
                if file.node is None or (not error.has_data and file.size_bytes):
                    return  # it waits for the rest
                _log.warning("%s stays as it was: %s", show_path(file.path), error)
            except H5fsError as error:
                if file.node is None:
                    return
                _log.warning("%s stays as it was: %s", show_path(file.path), error)
        if file.node is not None:
            if file.is_changed and file.path in self._waiting_pairs():
                return
            file.discard()
            self._forget_kept(file)
            self._pending.end_editing(file)

    def _waiting_pairs(self) -> set[bytes]:
        """Return the paths of files of sequences that wait for the other one."""
        return {
            each.path
            for each in self._pending.edited_files()
            if each.node is not None and each.node.kind in (NodeKind.VALUES, NodeKind.OFFSETS)
        }
