"""A file for the HDF5 library in which only a checkpoint changes committed bytes.

Owns the methods that HDF5 calls, commits and checkpoints; `changing_file` decides where writes go.

Must not open, close or name a file, import h5py, or start a thread. Not thread-safe: the caller's
lock covers H5Fflush and ``commit`` together.
"""

from __future__ import annotations

import errno
import os

from h5fs.store.log.changing_file import ChangingFile
from h5fs.store.log.format import MAX_RUN_BYTES
from h5fs.store.log.log_reader import check_main, read_headless, read_log
from h5fs.store.log.log_rest import NO_REST
from h5fs.store.log.log_writer import LogWriter
from h5fs.store.log.system_calls import write_all

_Buffer = bytes | bytearray | memoryview


class LoggedFile(ChangingFile):
    """A file object for h5py's ``fileobj`` driver, over a main file and a log that are open.

    ``log`` None: nothing can be committed. ``boot_id``: the kernel's, empty when it is not known.
    The methods that HDF5 calls never raise: the first error is kept in ``failure``, written data
    stay in memory, and ``commit`` raises. ``length``: the file's size in bytes; ``rest``: what
    followed the log's last commit when it was opened.
    """

    rest = NO_REST

    def open(self) -> None:
        """Read the log; changes nothing. May be called again, to go back to the last commit.

        Raises ``OSError``, and ``LogMismatchError`` when the log is not this main file's.
        """
        if self._witness is not None:
            self._witness.begin()
        contents = read_log(self._log_calls, self._boot_id) if self._log_calls else None
        if contents is not None and self._log_calls is not None:
            self.rest = contents.rest
            check_main(self._main, self._log_calls, contents)
            self._page_bytes = contents.header.page_bytes
        elif self._log_calls is not None and self._log_calls.size():
            self.rest = read_headless(self._log_calls, self._boot_id)
        self._forget()
        self._main_bytes = self.length = self._floor = self._main.size()
        if contents is not None and self._log is not None:
            self._log.adopt(contents)
            self._layers.committed = contents.index_pages()
            self.length = contents.length
            # A killed process may not have waited for the disk, so a power cut can still undo it.
            lengths = [commit.head.length for commit in contents.commits[: contents.counted]]
            self._floor = max([contents.header.base_length, *lengths])
            self._is_main_on_disk = False
            self._is_commit_on_disk = contents.last is None
            self._is_commit_durable = contents.last is None or contents.last.head.is_durable
        self._committed_length = self.length

    # What HDF5 calls.

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, in bytes, and return it."""
        if whence != os.SEEK_SET:
            offset += self._position if whence == os.SEEK_CUR else self.length
        self._position = offset if offset > 0 else 0
        return self._position

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill all of ``buffer``, with zeros past the end; return its size."""
        view = memoryview(buffer).cast("B")
        size, offset = len(view), self._position
        there = min(size, max(0, self.length - offset))
        try:
            if there:
                self._layers.read_into(view[:there], offset)
        except Exception as error:
            self._latch(error)
            there = 0
        if there < size:
            view[there:] = bytes(size - there)
        self._position = offset + size
        return size

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes from the position on; zeros where reading fails."""
        there = max(0, self.length - self._position)
        data = bytearray(there if size < 0 else min(size, there))
        self.readinto(data)
        return bytes(data)

    def write(self, data: _Buffer) -> int:
        """Write all of ``data`` at the position; return its size."""
        size, offset = len(data), self._position
        self._position = stop = offset + size
        page_bytes = self._page_bytes
        page, at = divmod(offset, page_bytes)
        try:
            if at + size > page_bytes or stop > self.length:
                self._write_at(offset, memoryview(data).cast("B"))
                return size
            # Nearly all of the library's writes are small ones to pages that the last changes had.
            known = self._layers.changed.get(page)
            if known is not None:
                known[at : at + size] = data
                return size
            known = self._layers.recent.get(page)
            if known is None or (page + 1) * page_bytes > self.length:
                self._write_at(offset, memoryview(data).cast("B"))
            elif known[at : at + size] != data:
                self._layers.changed[page] = known = bytearray(known)
                known[at : at + size] = data
                if len(self._layers.changed) > self._most_changed:
                    self._spill()
        except Exception as error:
            self._latch(error)
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the length in bytes (the position when there is none given), and return it."""
        size = self._position if size is None else size
        try:
            if size > self.length:
                self._grow(size)
            elif size < self.length:
                self._shrink(size)
        except Exception as error:
            self._latch(error)
        return size

    def flush(self) -> None:
        """Do nothing: ``commit`` makes changes last."""

    # What the owner calls.

    @property
    def has_changes(self) -> bool:
        """Whether there may be something to commit; ``commit`` compares the pages and knows."""
        layers = self._layers
        return (
            bool(layers.changed)
            or bool(layers.pending)
            or self._has_direct
            or self.length != self._committed_length
        )

    @property
    def log_bytes(self) -> int:
        """The log's size in bytes."""
        return self._log.size_bytes if self._log else 0

    def read_at(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``, fewer at the end. Raises ``OSError``."""
        data = bytearray(size)
        return bytes(data[: self.fill(memoryview(data), offset)])

    def fill(self, buffer: memoryview, offset: int) -> int:
        """Fill ``buffer`` from ``offset``; return how many bytes, fewer at the end.

        Raises ``OSError``.
        """
        size = max(0, min(len(buffer), self.length - offset))
        if size:
            self._layers.read_into(buffer[:size], offset)
        return size

    def allows_direct_write(self, start: int, stop: int) -> bool:
        """Whether another process may write bytes ``[start, stop)`` of the main file directly.

        True when no state to which the file could go back has these bytes, no layer above the main
        file covers them, and they lie before the length, so that no growth will cut them off. The
        log then has a header, which remembers where the main file ended. After the write, call
        ``note_direct_write``.
        """
        first, last = start // self._page_bytes, -(-stop // self._page_bytes)
        if self._log is None or self.failure or stop > self.length or first < self._first_free:
            return False
        try:
            self._begin_on_disk()
        except OSError:
            return False
        if not self._layers.is_clear(first, last):
            return False
        if self._witness is not None:
            self._witness.note_other_writer()
        return True

    def note_direct_write(self) -> None:
        """Take note of a write that ``allows_direct_write`` had allowed."""
        self._layers.recent.clear()
        self._has_direct = True
        self._is_main_on_disk = False
        try:
            self._main_bytes = self._main.size()
        except OSError as error:
            self._latch(error)

    def commit(self, *, durable: bool) -> None:
        """Commit the present state, which the next open will find. Flush HDF5 first.

        ``durable``: the commit survives a power cut; otherwise only the end of this process. Raises
        ``OSError``: then the commit before this one stands, and this one may be tried again. If
        ``failure`` is set, close the file in HDF5 and call ``open`` instead.
        """
        if self.failure:
            raise OSError(self.failure.errno, self.failure.strerror) from self.failure
        if self._witness is not None and (self.has_changes or self.log_bytes):
            self._witness.check(self._main_bytes)
        self._drop_equal_pages()
        if self._log is None:
            if self.has_changes:
                raise OSError(errno.EROFS, "a file without a log cannot be changed")
        elif self.has_changes or (durable and not self._is_commit_durable):
            self._commit(self._log, durable=durable)
        elif durable and not self._is_commit_on_disk:
            self._sync(self._log.sync, "log")
            self._is_commit_on_disk = True
            self._floor = self._committed_length

    def checkpoint(self) -> None:
        """Commit durably, bring the main file to that state and empty the log.

        Raises ``OSError``; a checkpoint that failed did no harm and can be tried again.
        """
        self.commit(durable=True)
        if self._log is None or self._log_calls is None:
            return
        if not self._log_calls.size() and not self._log.is_emptying:
            return
        length, page_bytes = self._committed_length, self._page_bytes
        if self._witness is not None:
            self._witness.note_own_write(of_first_page=True)
        self._is_main_on_disk = False
        if self._log.is_begun and self._main.size() > -(-length // page_bytes) * page_bytes:
            # Truncate first: bytes beyond the length belong to no state, and may fill the disk.
            self._main_bytes = min(self._main_bytes, length)
            self._main.ftruncate(length)
        for start, stop, offset in self._layers.committed:
            for page in range(start, stop, MAX_RUN_BYTES // page_bytes):
                size = min(MAX_RUN_BYTES, stop * page_bytes - page * page_bytes)
                data = memoryview(bytearray(size))
                self._log.read_into(data, offset + (page - start) * page_bytes)
                # Whole pages, also past the length: a page is never part old and part new.
                write_all(self._main, data, page * page_bytes)
        if self._log.is_begun and self._main.size() != length:
            self._main_bytes = min(self._main_bytes, length)  # also when the rest fails
            self._main.ftruncate(length)
        self._main_bytes = self._main.size()
        self._main.fsync()
        self._is_main_on_disk = True
        if self._witness is not None:
            self._witness.renew()
        self._layers.recent.clear()
        self._layers.committed.clear()  # the main file has them now, whether the log goes or not
        self._log.empty()

    # How committing goes.

    def _drop_equal_pages(self) -> None:
        """Forget changed pages that hold what was committed, up to the first that does not.

        So nothing is committed when nothing really changed, and a real change costs one look.
        """
        length = min(self.length, self._committed_length)
        for page in list(self._layers.changed):
            if not self._layers.is_as_committed(page, length):
                return
            del self._layers.changed[page]

    def _commit(self, log: LogWriter, *, durable: bool) -> None:
        if durable and not self._is_main_on_disk:
            self._sync(self._main.fsync, "file")
            self._is_main_on_disk = True
            if self._witness is not None:
                self._witness.renew_time()
        layers, operation = self._layers, log.operation()
        try:
            with operation:
                self._begin(log)
                placed = [
                    (first, first + len(data) // self._page_bytes, log.put_pages(first, data))
                    for first, data in layers.changed_runs(MAX_RUN_BYTES // self._page_bytes)
                ]
                log.put_commit(
                    is_durable=durable,
                    length=self.length,
                    boot=self._boot,
                    main_bytes=self._main_bytes,
                )
            if durable:
                self._sync(log.sync, "log")
        except OSError as error:
            if self.failure:
                operation.withdraw()
            elif log.is_unusable:
                self._latch(error)
            raise
        if layers.pending:
            layers.recent.clear()
            for start, stop, offset in layers.pending:
                layers.committed.insert(start, stop, offset)
            layers.pending.clear()
        layers.commit_changed(placed)
        if self.blank:
            for start, stop, _ in placed:  # also after the next checkpoint
                self.blank.end(start, stop)
        layers.committed.cut(-(-self.length // self._page_bytes))
        self._note_commit(durable=durable)

    def _note_commit(self, *, durable: bool) -> None:
        self._committed_length = self.length
        self._floor = self.length if durable else max(self._floor, self.length)
        self._is_commit_on_disk = self._is_commit_durable = durable
        if durable:
            self.blank.note_durable_commit()
        self._has_direct = False
