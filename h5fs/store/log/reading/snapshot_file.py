"""An HDF5 file as of a commit in its log, for whoever does not write it.

The writer tells where in the log its commit ends; this goes from frame to frame up to there, and
never looks at what follows. So it reads beside the writer: commits only add to the log, and the
main file's bytes before the committed length stay as they are. Only a checkpoint changes them, and
empties the log: no read may go on meanwhile (`gate`), and ``forget`` comes after it.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Hashable

from h5fs.store.log import format as log_format
from h5fs.store.log.format import MAX_FRAME_HEAD_BYTES, PAGE_FRAME_BYTES, PAGE_SIZES, SECTOR_BYTES
from h5fs.store.log.log_reader import check_main, read_log
from h5fs.store.log.page_layers import read_through
from h5fs.store.log.runs import RunIndex
from h5fs.store.log.system_calls import SystemCalls, read_into
from h5fs.store.sources.interface import WholeSource

_PAGE_BYTES = 4096  # of a log that is yet to be begun


class SnapshotFile(WholeSource):
    """A ``Source`` that any thread may read. ``stop``: where in the log its commit ends.

    ``_lock`` protects everything that changes, and is held for moments only.
    """

    def __init__(self, main: SystemCalls, log: SystemCalls) -> None:
        self._main = main
        self._log = log
        self._lock = threading.Lock()
        self._length = 0
        self._pages = RunIndex(_PAGE_BYTES)
        self._page_bytes = _PAGE_BYTES
        self.stop = 0

    def open(self, boot_id: bytes) -> None:
        """Be at the last commit that counts. Raises ``OSError``, ``LogMismatchError``."""
        self._open(boot_id, counts_all=False)

    def open_beside_writer(self) -> None:
        """Be at the last commit of a log that is in use, all of whose commits count.

        Nobody may write meanwhile. Raises ``OSError``, ``LogMismatchError``.
        """
        self._open(b"", counts_all=True)

    def _open(self, boot_id: bytes, *, counts_all: bool) -> None:
        contents = read_log(self._log, boot_id)
        if contents is None:
            self.forget()
            return
        if counts_all:
            contents.counted = len(contents.commits)
        check_main(self._main, self._log, contents)
        with self._lock:
            self._page_bytes = contents.header.page_bytes
            self._pages = contents.index_pages()
            self._length = contents.length
            last = contents.last
            self.stop = last.stop_offset if last else contents.header.size_bytes

    def forget(self) -> None:
        """Be as if there was no log: a checkpoint has emptied it. Raises ``OSError``."""
        length = self._main.size()
        with self._lock:
            self._pages = RunIndex(_PAGE_BYTES)
            self._page_bytes, self._length, self.stop = _PAGE_BYTES, length, 0

    def advance(self, stop: int) -> None:
        """Be at the commit that ends at ``stop``, if not at a later one.

        Checksums are not looked at: whoever committed has just written the frames. Raises
        ``OSError`` where they are not what commits leave.
        """
        if self.stop >= stop:
            return
        with self._lock:
            frames: list[tuple[int, int, int]] = []
            at = self.stop or self._begin()
            while at < stop:
                head = self._log.pread(MAX_FRAME_HEAD_BYTES, at)
                size = log_format.frame_bytes(head, self._page_bytes)
                if not size or at + size > stop:
                    raise OSError(errno.EIO, f"the log has no frame at byte {at}")
                found = log_format.peek_head(head)
                if isinstance(found, tuple):
                    first, count = found
                    frames.append((first, first + count, at + PAGE_FRAME_BYTES))
                else:
                    self._commit(frames, found)
                    frames = []
                    self.stop = at + size
                at += size

    def _begin(self) -> int:
        """Take over the header of a new log; return where its frames begin."""
        named = log_format.peek_header(self._log.pread(SECTOR_BYTES, 0))
        if named is None or named[0] != log_format.VERSION or named[1] not in PAGE_SIZES:
            raise OSError(errno.EIO, "the log has no header")
        self._page_bytes = named[1]
        self._pages = RunIndex(self._page_bytes)
        return log_format.header_bytes(self._page_bytes)

    def _commit(self, frames: list[tuple[int, int, int]], length: int) -> None:
        for first, stop, offset in frames:
            self._pages.insert(first, stop, offset)
        self._pages.cut(-(-length // self._page_bytes))
        self._length = length

    @property
    def size_bytes(self) -> int:
        return self._length

    @property
    def version(self) -> Hashable:
        return self.stop

    def read_into(self, buffer: memoryview, offset: int) -> int:
        with self._lock:
            size = max(0, min(len(buffer), self._length - offset))
            first, stop = offset // self._page_bytes, -(-(offset + size) // self._page_bytes)
            runs = self._pages.overlap(first, stop) if self._pages else []
            page_bytes = self._page_bytes
        if not runs:
            read_into(self._main, buffer[:size] if size < len(buffer) else buffer, offset)
        else:
            view = buffer[:size]
            read_through(
                self._main, lambda part, at: read_into(self._log, part, at), view, offset, runs,
                page_bytes,
            )  # fmt: skip
        return size
