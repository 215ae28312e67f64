"""Writes a log: puts frames at the end of its chain, all frames of an operation or none.

Owns the log's descriptor; of the main file it knows only the page in the header. Not thread-safe.
"""

from __future__ import annotations

from types import TracebackType

from h5fs.store.log import format as log_format
from h5fs.store.log.format import CommitHead, Header
from h5fs.store.log.log_reader import LogContents
from h5fs.store.log.system_calls import SystemCalls, read_into, write_all

_COLLECT_BYTES = 2**16

_Mark = tuple[bool, int, int, int]


class LogWriter:
    """The end of a log.

    ``is_begun``: the log has a header; ``is_header_on_disk``: so it has after a power cut.
    ``sequence``: the last commit's number. ``is_unusable``: withdrawn frames may still be in the
    file. ``is_emptying``: the disk may still have frames of a log that was emptied.
    """

    def __init__(self, log: SystemCalls, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self.is_begun = False
        self.is_header_on_disk = False
        self.is_unusable = False
        self.sequence = 0
        self._log = log
        self._end = 0
        self._chain = 0
        self._collected = bytearray()
        self.is_emptying = False
        self._may_have_rest = True
        # A process that was killed may not have waited for the durable commit that ends its log.
        # Frames follow one only when it is on the disk: by that a reader knows damage.
        self._may_be_loose = False

    @property
    def size_bytes(self) -> int:
        """Where the next frame goes; 0 for an empty log."""
        return self._end + len(self._collected)

    def adopt(self, contents: LogContents) -> None:
        """Go on after the last commit that counts in a log that was read."""
        last = contents.last
        self.page_bytes = contents.header.page_bytes
        self.is_begun = True
        self.sequence = last.head.sequence if last else 0
        self._end = last.stop_offset if last else contents.header.size_bytes
        self._chain = last.head.chain if last else contents.header.chain
        self._may_be_loose = last is not None and last.head.is_durable

    def begin(self, first_page: bytes, base_length: int, boot: bytes) -> None:
        """Write the header, if there is none, or cut off what follows the chain.

        ``boot``: the digest. Raises ``OSError``.
        """
        if self.is_begun:
            if self._may_have_rest and self._log.size() != self._end:
                self._log.ftruncate(self._end)
            self._may_have_rest = False
            if self._may_be_loose:
                self.sync()
                self._may_be_loose = False
            return
        if self.is_emptying or self._may_have_rest:
            self.empty()  # also when it looks empty: a killed process may not have waited for it
        self._may_have_rest = False
        salt = log_format.make_salt(boot)
        header = Header(self.page_bytes, salt, base_length, first_page)
        data, chain = log_format.pack_header(header)
        self._collected += data
        self._chain = chain
        self.is_begun = True

    def operation(self) -> _Operation:
        """Put the frames of the block into the log together; after an ``OSError`` none is there.

        They can also be withdrawn later, before there are others.
        """
        return _Operation(self, (self.is_begun, self._end, self._chain, self.sequence))

    def _withdraw(self, mark: _Mark) -> None:
        """Take back all frames since ``mark``."""
        self.is_begun, self._end, self._chain, self.sequence = mark
        # A new bytearray, not a cleared one: an exception may still hold a view of the old one.
        self._collected = bytearray()
        self._may_have_rest = True
        try:
            self._log.ftruncate(self._end)
        except OSError:
            # The next frames would overwrite them, but until then a reader could find them.
            self.is_unusable = True

    def put_pages(self, first_page: int, pages: bytes | bytearray | memoryview) -> int:
        """Put a frame of whole pages, and return where they are. Raises ``OSError``."""
        head, chain = log_format.pack_page_head(first_page, pages, self.page_bytes, self._chain)
        self._collected += head
        offset = self._end + len(self._collected)
        if len(pages) < _COLLECT_BYTES:  # so that a small commit is one system call
            self._collected += pages
        else:
            self.flush()
            write_all(self._log, pages, offset)
            self._end += len(pages)
        if len(self._collected) >= log_format.MAX_RUN_BYTES:
            self.flush()
        self._chain = chain
        return offset

    def put_commit(self, *, is_durable: bool, length: int, boot: bytes, main_bytes: int) -> None:
        """Put a commit frame. Raises ``OSError``."""
        commit = CommitHead(self.sequence + 1, is_durable, length, boot, main_bytes)
        data, chain = log_format.pack_commit(commit, self._chain)
        self._collected += data
        self._chain = chain
        self.sequence += 1

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` with bytes of frames. Raises ``OSError``."""
        read_into(self._log, view, offset)

    def sync(self) -> None:
        """Wait until all frames are on the disk. Raises ``OSError``."""
        self._log.fsync()
        self.is_header_on_disk = self.is_begun

    def empty(self) -> None:
        """Leave nothing in the log, and wait until that is on the disk. Raises ``OSError``.

        After a failure nothing may be written until a later call succeeds: a new header must not
        stand in front of old frames, nor may old frames survive a header that a power cut lost.
        """
        self.is_emptying = True
        self._log.ftruncate(0)
        self.is_begun = self.is_header_on_disk = False
        self.sequence = self._end = self._chain = 0
        self._log.fsync()
        self.is_emptying = False

    def flush(self) -> None:
        """Write what was collected. Raises ``OSError``."""
        if self._collected:
            write_all(self._log, self._collected, self._end)
            self._end += len(self._collected)
            self._collected.clear()


class _Operation:
    """See ``LogWriter.operation``."""

    __slots__ = ("_log", "_mark")

    def __init__(self, log: LogWriter, mark: _Mark) -> None:
        self._log = log
        self._mark = mark

    def withdraw(self) -> None:
        """Take back all frames."""
        self._log._withdraw(self._mark)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.withdraw()
            return
        try:
            self._log.flush()
        except BaseException:
            self.withdraw()
            raise
