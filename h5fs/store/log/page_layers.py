"""The file as it is read: the main file, covered by the pages of the log and of memory.

The layers from the bottom: the main file; ``committed``, pages in the log that a commit covers;
``pending``, pages in the log that no commit covers yet; ``changed``, pages in memory. ``recent`` is
no layer: it has some pages in memory as they are committed, since the next change is often to the
same ones. This module only reads and looks up. Not thread-safe.

Bytes at or past the file's length in a lower layer are stale; `changing_file` keeps them from
coming back when the file grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from h5fs.store.log.log_writer import LogWriter
from h5fs.store.log.runs import RunIndex
from h5fs.store.log.system_calls import SystemCalls, read_into


def read_through(
    main: SystemCalls,
    read_log: Callable[[memoryview, int], object],
    view: memoryview,
    offset: int,
    runs: list[tuple[int, int, int]],
    page_bytes: int,
) -> None:
    """Fill ``view`` from the main file, covered by runs of pages in the log, the later the higher.

    ``runs``: first page, page after the last, offset in the log; all in the view. ``read_log``
    fills a view from an offset in the log. Raises ``OSError``.
    """
    whole = offset // page_bytes, -(-(offset + len(view)) // page_bytes)
    if not any(run[:2] == whole for run in runs):
        read_into(main, view, offset)
    for first, last, place in runs:
        run_start, run_stop = first * page_bytes, last * page_bytes
        start, stop = max(offset, run_start), min(offset + len(view), run_stop)
        read_log(view[start - offset : stop - offset], place + start - run_start)


_MOST_RECENT_BYTES = 2**20


class PageLayers:
    """The layers of one file. All offsets are in bytes, all page numbers from 0.

    ``recent`` has whole pages before the file's length, none of them pending, and is kept true:
    `changing_file` forgets those that lie past a shorter length, or that go to a file without being
    in memory first.
    """

    def __init__(self, main: SystemCalls, log: LogWriter | None, page_bytes: int) -> None:
        self.page_bytes = page_bytes
        self.changed: dict[int, bytearray] = {}
        self.recent: dict[int, bytearray] = {}
        self.pending = RunIndex(page_bytes)
        self.committed = RunIndex(page_bytes)
        self._main = main
        self._log = log

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view``, all of it before the file's length. Raises ``OSError``."""
        first, stop = offset // self.page_bytes, -(-(offset + len(view)) // self.page_bytes)
        committed = self.committed.overlap(first, stop) if self.committed else []
        pending = self.pending.overlap(first, stop) if self.pending else []
        read_through(self._main, self._read_log, view, offset, committed + pending, self.page_bytes)
        if self.changed:
            self._lay_changed(view, offset, first, stop)

    def _read_log(self, view: memoryview, offset: int) -> None:
        assert self._log is not None
        self._log.read_into(view, offset)

    def _lay_changed(self, view: memoryview, offset: int, first: int, stop: int) -> None:
        pages: list[int] | range = range(first, stop)
        if len(pages) > len(self.changed):
            pages = [page for page in self.changed if first <= page < stop]
        for page in pages:
            data = self.changed.get(page)
            if data is not None:
                page_start = page * self.page_bytes
                start = max(offset, page_start)
                part = memoryview(data)[start - page_start : offset + len(view) - page_start]
                view[start - offset : start - offset + len(part)] = part

    def load_page(self, page: int, length: int) -> bytearray:
        """Return a page that is not in ``changed``, with zeros from the file's ``length`` on.

        It must be left as it is. Raises ``OSError``.
        """
        size = min(length - page * self.page_bytes, self.page_bytes)
        known = self.recent.get(page)
        if known is not None and size > 0:
            return known if size == self.page_bytes else _cut(known, size)
        data = bytearray(self.page_bytes)
        if size > 0:
            self.read_into(memoryview(data)[:size], page * self.page_bytes)
        if size == self.page_bytes and self.pending.find(page) is None:
            if len(self.recent) * self.page_bytes >= _MOST_RECENT_BYTES:
                self.recent.clear()
            self.recent[page] = data
        return data

    def is_as_committed(self, page: int, length: int) -> bool:
        """Whether a changed page, before the committed ``length``, holds what was committed.

        Compares what the lower layers really have, stale bytes too. Raises ``OSError``.
        """
        if page * self.page_bytes >= length:
            return False
        known = self.recent.get(page)
        if known is not None:
            return known == self.changed[page]
        if self.pending.find(page) is not None:
            return False
        data = bytearray(self.page_bytes)
        offset = self.committed.find(page)
        if offset is None or self._log is None:
            read_into(self._main, memoryview(data), page * self.page_bytes)
        else:
            self._log.read_into(memoryview(data), offset)
        return data == self.changed[page]

    def commit_changed(self, placed: list[tuple[int, int, int]]) -> None:
        """Let the changed pages be committed ones.

        ``placed``: runs of them, each as its first page, the page after the last, and the offset in
        the log.
        """
        for first, stop, offset in placed:
            self.committed.insert(first, stop, offset)
        if (len(self.recent) + len(self.changed)) * self.page_bytes > _MOST_RECENT_BYTES:
            self.recent.clear()
        if len(self.changed) * self.page_bytes <= _MOST_RECENT_BYTES:
            self.recent.update(self.changed)
        self.changed.clear()

    def drop(self, first: int, stop: int) -> None:
        """Forget pages ``[first, stop)`` in memory: something newer lies below them now."""
        for pages in (self.changed, self.recent):
            if len(pages) < stop - first:
                for page in [page for page in pages if first <= page < stop]:
                    del pages[page]
            elif pages:
                for page in range(first, stop):
                    pages.pop(page, None)

    def drop_from(self, first: int) -> None:
        """Forget all pages in memory from ``first`` on: the file ends before them."""
        for pages in (self.changed, self.recent):
            for page in [page for page in pages if page >= first]:
                del pages[page]

    def changed_runs(self, max_pages: int) -> Iterator[tuple[int, bytes | bytearray]]:
        """Yield the changed pages in order, consecutive ones as one: first page and bytes."""
        first, pages = 0, list[bytearray]()
        for page in (*sorted(self.changed), -1):
            if pages and (page != first + len(pages) or len(pages) == max_pages):
                yield first, pages[0] if len(pages) == 1 else b"".join(pages)
                pages = []
            if page >= 0:
                first = page if not pages else first
                pages.append(self.changed[page])

    def is_clear(self, first: int, stop: int) -> bool:
        """Whether no layer above the main file has any of the pages ``[first, stop)``."""
        if self.committed.overlap(first, stop) or self.pending.overlap(first, stop):
            return False
        if len(self.changed) < stop - first:
            return not any(first <= page < stop for page in self.changed)
        return not any(page in self.changed for page in range(first, stop))


def _cut(page: bytearray, size: int) -> bytearray:
    """Return a page with zeros from ``size`` on."""
    return bytearray(page[:size].ljust(len(page), b"\0"))
