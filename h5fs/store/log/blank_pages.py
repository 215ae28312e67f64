"""Blank pages: zeros of the main file that commits have, and that nobody has written to yet.

They are those of a large new array into which nothing was written before it was closed, as
``open_memmap`` makes it. What programs then write into a map of it need not go through the log: no
order was promised for it, and all that a power cut can do is to leave some of it out, which then
are zeros. That ends with the next commit that survives a power cut: it has promised what there is.
Plain data, no files. Not thread-safe.
"""

from __future__ import annotations

from h5fs.store.log.runs import RunIndex


class BlankPages:
    """Pages that may be written to directly, by number.

    ``_blank``: all that were noted. ``_promised``: those that are blank no more. ``_written``:
    those that were written to since the last durable commit.
    """

    def __init__(self, page_bytes: int) -> None:
        self._blank = RunIndex(page_bytes)
        self._promised = RunIndex(page_bytes)
        self._written = RunIndex(page_bytes)

    def __bool__(self) -> bool:
        return bool(self._blank)

    def note(self, first: int, stop: int) -> None:
        """Take note that pages ``[first, stop)`` are zeros, in the main file and in each commit
        that has them."""
        self._blank.insert(first, stop, 0)

    def have(self, first: int, stop: int) -> bool:
        """Whether all of the pages ``[first, stop)`` may be written to directly."""
        if not self._blank or self._promised.overlap(first, stop):
            return False
        found = sum(high - low for low, high, _ in self._blank.overlap(first, stop))
        return found == stop - first

    def note_write(self, first: int, stop: int) -> None:
        """Take note that pages are written to; until the next durable commit they may be again."""
        self._written.insert(first, stop, 0)

    def end(self, first: int, stop: int) -> None:
        """Take note that pages are blank no more, whatever is in them."""
        if self._blank.overlap(first, stop):
            self._promised.insert(first, stop, 0)

    def note_durable_commit(self) -> None:
        """Take note that what was written so far is promised now."""
        for first, stop, _ in self._written:
            self._promised.insert(first, stop, 0)
        self._written.clear()

    def cut(self, stop: int) -> None:
        """Take note that the file ends before page ``stop``."""
        for pages in (self._blank, self._promised, self._written):
            pages.cut(stop)
