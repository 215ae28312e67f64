"""Where each write goes: to memory, to the log, or to the main file itself.

The *main file* is the HDF5 file, as opposed to its log. This module owns the file's length, its
layers (`page_layers`) and the *floor*: the greatest length of any state to which a power cut could
still lead back, which are the last durable commit and all later commits. The main file's bytes
before the floor stay as they are until a checkpoint; writes there are kept in memory and in the
log. Large writes past the floor go straight to the main file.

When a file is made shorter and grows again, its old bytes must not come back. Two rules see to
that. In the last page, the bytes past the length are zeros in the topmost layer that has the page.
And before the length is raised, the main file is cut off at the length or the floor, and pages
between the two, or that the log will replay, are covered with zeros in a higher layer.

This module never commits; `logged_file` does. Not thread-safe.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from h5fs.store.log.blank_pages import BlankPages
from h5fs.store.log.format import MAX_RUN_BYTES, digest_boot_id
from h5fs.store.log.log_writer import LogWriter
from h5fs.store.log.main_witness import MainWitness
from h5fs.store.log.page_layers import PageLayers
from h5fs.store.log.system_calls import SystemCalls, read_exactly, write_all

LARGE_WRITE_BYTES = 2**16
"""Writes from this size on go to a file at once, not to memory first."""

MAX_CHANGED_BYTES = 2**24
"""How much memory holds before its pages go to the log, without a commit."""

_Buffer = bytes | bytearray | memoryview


class ChangingFile:
    """A file with uncommitted changes.

    ``length``: its size in bytes. ``failure``: the first error of a method that must not raise, or
    of an fsync. ``blank``: pages that large writes may change directly while ``fills_blanks``.
    """

    def __init__(
        self,
        main: SystemCalls,
        log: SystemCalls | None,
        *,
        boot_id: bytes,
        page_bytes: int = 4096,
        witness: MainWitness | None = None,
    ) -> None:
        self.length = 0
        self.failure: OSError | None = None
        self.fills_blanks = False
        self._main = main
        self._log_calls = log
        self._boot_id = boot_id
        self._boot = digest_boot_id(boot_id)
        self._page_bytes = page_bytes
        self._witness = witness
        self._forget()

    def _forget(self) -> None:
        """Be as if nothing had been read or written yet."""
        log = self._log_calls
        self._log = LogWriter(log, self._page_bytes) if log else None
        self._layers = PageLayers(self._main, self._log, self._page_bytes)
        self.blank = BlankPages(self._page_bytes)
        self.failure = None
        self._most_changed = MAX_CHANGED_BYTES // self._page_bytes
        self._position = 0
        self._committed_length = 0
        self._floor = 0
        self._main_bytes = 0
        self._has_direct = False
        self._is_main_on_disk = True
        self._is_commit_on_disk = True
        self._is_commit_durable = True

    @property
    def page_bytes(self) -> int:
        """The size of a page."""
        return self._page_bytes

    @property
    def _first_free(self) -> int:
        """The first page of the main file that no state has to which a power cut could lead back.

        Never page 0, by which a log knows its main file.
        """
        return max(1, -(-self._floor // self._page_bytes))

    def _latch(self, error: Exception) -> None:
        """Keep the first error for ``commit``."""
        if self.failure is None:
            if not isinstance(error, OSError):
                reason = errno.ENOMEM if isinstance(error, MemoryError) else errno.EIO
                kept = OSError(reason, f"{type(error).__name__}: {error}")
                kept.__cause__ = error
                error = kept
            self.failure = error

    def _sync(self, sync: Callable[[], None], name: str) -> None:
        """Wait for the disk. An error is kept for good: nobody knows what the disk has then."""
        try:
            sync()
        except OSError as error:
            self.failure = OSError(
                error.errno,
                f"fsync of the {name} reported an error ({error.strerror}): whether the last "
                "changes are on the disk is not known. Close the file and open it again",
            )
            raise self.failure from error

    def _write_at(self, offset: int, view: memoryview) -> None:
        """Write; what a file refuses is kept in memory, and the refusal is latched."""
        stop, page_bytes = offset + len(view), self._page_bytes
        if stop > self.length and (offset > self.length or self._main_bytes > self.length):
            self._grow(max(offset, self.length))
        first, last = -(-offset // page_bytes), stop // page_bytes
        if len(view) < LARGE_WRITE_BYTES or first >= last:
            self._change(offset, view)
        else:
            start = first * page_bytes - offset
            self._change(offset, view[:start])
            self._write_pages(first, last, view[start : last * page_bytes - offset])
            self._change(last * page_bytes, view[last * page_bytes - offset :])
        self.length = max(self.length, stop)
        if len(self._layers.changed) > self._most_changed:
            self._spill()

    def _change(self, offset: int, view: memoryview) -> None:
        """Write to pages in memory; a write that changes nothing leaves no changed page."""
        page_bytes, length = self._page_bytes, self.length
        changed, recent = self._layers.changed, self._layers.recent
        stop = offset + len(view)
        while offset < stop:
            page, at = divmod(offset, page_bytes)
            end = min(at + stop - offset, page_bytes)
            piece, view = view[: end - at], view[end - at :]
            offset += end - at
            data = changed.get(page)
            if data is None:
                start = page * page_bytes
                known = recent.get(page) if start + page_bytes <= length else None
                if known is None:
                    known = self._load(page)
                # A page past the end must cover the stale page below it, even an equal one.
                if start < length and known[at:end] == piece:
                    continue
                changed[page] = data = bytearray(known)
            data[at:end] = piece

    def _load(self, page: int) -> bytearray:
        try:
            return self._layers.load_page(page, self.length)
        except OSError as error:
            self._latch(error)
            return bytearray(self._page_bytes)

    def _write_pages(self, first: int, stop: int, view: memoryview) -> None:
        """Write whole pages: to the main file where no commit has them, else to the log."""
        if self.fills_blanks and self.blank.have(first, stop):
            self.blank.note_write(first, stop)
            self._write_to(self._write_direct, first, stop, view)
            return
        split = min(max(self._first_free, first), stop)
        if self._layers.pending.overlap(split, stop):
            split = stop  # older pages in the log would cover them
        at = (split - first) * self._page_bytes
        if first < split:
            low, high = self._find_difference(first, split, view[:at])
            part = view[(low - first) * self._page_bytes : (high - first) * self._page_bytes]
            if part:
                self._write_to(self._put_pending_view, low, high, part)
        if split < stop:
            self._write_to(self._write_direct, split, stop, view[at:])

    def _write_to(
        self, put: Callable[[int, memoryview], None], first: int, stop: int, view: memoryview
    ) -> None:
        if self.failure is None and self._log is not None:
            try:
                put(first, view)
            except OSError as error:
                self._latch(error)
            else:
                self._layers.drop(first, stop)
                return
        for page in range(first, stop):
            at = (page - first) * self._page_bytes
            self._layers.changed[page] = bytearray(view[at : at + self._page_bytes])

    def _put_pending_view(self, first: int, view: memoryview) -> None:
        """Put pages into the log, in frames of limited size, before any commit covers them."""
        step = MAX_RUN_BYTES
        pages = step // self._page_bytes
        starts = range(0, len(view), step)
        self._put_pending((first + i * pages, view[at : at + step]) for i, at in enumerate(starts))

    def _put_pending(self, runs: Iterable[tuple[int, _Buffer]]) -> None:
        assert self._log is not None
        with self._log.operation():
            self._begin(self._log)
            placed = [(first, len(data), self._log.put_pages(first, data)) for first, data in runs]
        self._layers.recent.clear()
        for first, size, offset in placed:
            self._layers.pending.insert(first, first + size // self._page_bytes, offset)
            self.blank.end(first, first + size // self._page_bytes)

    def _write_direct(self, first: int, view: memoryview) -> None:
        self._begin_on_disk()
        self._check_main()
        self._has_direct = True
        self._is_main_on_disk = False
        offset = first * self._page_bytes
        self._main_bytes = max(self._main_bytes, offset + len(view))
        write_all(self._main, view, offset)

    def _find_difference(self, first: int, stop: int, view: memoryview) -> tuple[int, int]:
        """Return what there is to write of pages ``[first, stop)``, in which ``view`` shall be.

        What lies before or after may be in the file already: the library writes all names of a
        group where one is new.
        """
        page_bytes = self._page_bytes
        if stop * page_bytes > self.length:
            return first, stop
        # Where all is new, the first page nearly always is.
        if self._read(first, page_bytes) != view[:page_bytes]:
            return first, stop
        while first < stop:
            part = view[:MAX_RUN_BYTES]
            found = self._read(first, len(part))
            equal = _count_equal(found, part, page_bytes)
            first, view = first + equal, view[equal * page_bytes :]
            if equal * page_bytes < len(part):
                if len(part) == len(view) + equal * page_bytes:
                    stop -= _count_equal_at_end(found, part, page_bytes)
                break
        return first, stop

    def _read(self, page: int, size: int) -> bytearray:
        """Return bytes from a page on. Raises ``OSError``."""
        found = bytearray(size)  # bytearrays compare fast, memoryviews do not
        self._layers.read_into(memoryview(found), page * self._page_bytes)
        return found

    def _spill(self) -> None:
        """Bound memory: put the changed pages into the log, still without a commit."""
        layers = self._layers
        if self.failure is None and self._log is not None:
            try:
                self._put_pending(layers.changed_runs(MAX_RUN_BYTES // self._page_bytes))
            except OSError as error:
                self._latch(error)
            else:
                layers.changed.clear()

    def _grow(self, length: int) -> None:
        """Let the file end at ``length``, with zeros from where it ended until now."""
        # The first page is left as it is: a log knows the file by it.
        kept = max(self.length, self._floor, self._page_bytes)
        if self._main_bytes > kept and self.failure is None:
            self._is_main_on_disk = False
            try:
                self._check_main()
                self._main.ftruncate(kept)
                self._main_bytes = kept
            except OSError as error:
                self._latch(error)
        stale = max(self._first_free, self._layers.pending.stop)
        first, stop = -(-self.length // self._page_bytes), -(-length // self._page_bytes)
        for page in range(first, min(stop, stale)):
            self._layers.changed[page] = bytearray(self._page_bytes)
            if len(self._layers.changed) > self._most_changed:
                self._spill()
        self.length = length

    def _shrink(self, length: int) -> None:
        page, at = divmod(length, self._page_bytes)
        if at:
            data = self._layers.changed.get(page) or bytearray(self._load(page))
            self._layers.changed[page] = data
            data[at:] = bytes(self._page_bytes - at)
        self.length = length
        self._layers.drop_from(page + bool(at))
        self.blank.cut(page)

    def _check_main(self) -> None:
        """Check, before a write to the main file, that no other program has written to it.

        Raises ``OSError``.
        """
        if self._witness is not None:
            self._witness.check(self._main_bytes)
            self._witness.note_own_write()

    def _begin(self, log: LogWriter) -> None:
        first_page = b"" if log.is_begun else read_exactly(self._main, self._page_bytes, 0)
        log.begin(first_page, self._committed_length, self._boot)

    def _begin_on_disk(self) -> None:
        """Make sure that the log's header is on the disk before the main file is extended."""
        assert self._log is not None
        if not self._log.is_header_on_disk:
            with self._log.operation():
                self._begin(self._log)
            self._sync(self._log.sync, "log")


def _count_equal(found: bytearray, view: memoryview, page_bytes: int) -> int:
    """Return how many pages are equal before the first that is not."""
    low, high = 0, len(view) // page_bytes
    while low < high:
        middle = (low + high + 1) // 2
        start, stop = low * page_bytes, middle * page_bytes
        low, high = (middle, high) if found[start:stop] == view[start:stop] else (low, middle - 1)
    return low


def _count_equal_at_end(found: bytearray, view: memoryview, page_bytes: int) -> int:
    """Return how many pages are equal after the last that is not."""
    count = len(view) // page_bytes
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        start, stop = (count - middle) * page_bytes, (count - low) * page_bytes
        low, high = (middle, high) if found[start:stop] == view[start:stop] else (low, middle - 1)
    return low
