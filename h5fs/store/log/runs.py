"""Where in the log the pages are: runs of consecutive pages, sorted, without overlap.

Plain data, no files. Not thread-safe.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RunIndex:
    """From page numbers to offsets in the log, in bytes; ``page_count`` is how many there are."""

    def __init__(self, page_bytes: int) -> None:
        self._page_bytes = page_bytes
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._offsets: list[int] = []
        self.page_count = 0

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Yield ``start``, ``stop`` (pages) and the offset of each run, in order."""
        return zip(self._starts, self._stops, self._offsets, strict=True)

    @property
    def stop(self) -> int:
        """The page after the last one; 0 when there is none."""
        return self._stops[-1] if self._stops else 0

    def insert(self, start: int, stop: int, offset: int) -> None:
        """Say that pages ``[start, stop)`` are at ``offset`` now, whatever was said before."""
        if not self._stops or start >= self._stops[-1]:
            self.page_count += stop - start
            self._starts.append(start)
            self._stops.append(stop)
            self._offsets.append(offset)
            return
        low = bisect_right(self._stops, start)
        if self._starts[low] == start and self._stops[low] == stop:
            self._offsets[low] = offset  # as most small changes do: the same pages once more
            return
        self.page_count += stop - start
        high = bisect_left(self._starts, stop)
        runs = [(start, stop, offset)]
        if low < high:
            runs = self._cut_around(low, high, start, stop, runs)
        self._starts[low:high] = [run[0] for run in runs]
        self._stops[low:high] = [run[1] for run in runs]
        self._offsets[low:high] = [run[2] for run in runs]

    def _cut_around(
        self, low: int, high: int, start: int, stop: int, runs: list[tuple[int, int, int]]
    ) -> list[tuple[int, int, int]]:
        """Return ``runs`` with what is left of runs ``[low, high)`` on both sides of it."""
        for i in range(low, high):
            self.page_count -= min(stop, self._stops[i]) - max(start, self._starts[i])
        before, after = self._starts[low], self._stops[high - 1]
        if before < start:
            runs = [(before, start, self._offsets[low]), *runs]
        if after > stop:
            offset = self._offsets[high - 1]
            offset += (stop - self._starts[high - 1]) * self._page_bytes
            runs = [*runs, (stop, after, offset)]
        return runs

    def extend(self, stop: int) -> None:
        """Let the last run, of which there must be one, reach to page ``stop``."""
        self.page_count += stop - self._stops[-1]
        self._stops[-1] = stop

    def find(self, page: int) -> int | None:
        """Return the offset of a page, or None when the log does not have it."""
        i = bisect_right(self._starts, page) - 1
        if i < 0 or page >= self._stops[i]:
            return None
        return self._offsets[i] + (page - self._starts[i]) * self._page_bytes

    def next_run(self, page: int) -> tuple[int, int] | None:
        """Return the first run that ends after a page, ``start`` and ``stop``; None for none."""
        i = bisect_right(self._stops, page)
        return (self._starts[i], self._stops[i]) if i < len(self._stops) else None

    def overlap(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Return the runs in pages ``[start, stop)``, cut to it."""
        low = bisect_right(self._stops, start)
        high = bisect_left(self._starts, stop)
        runs = []
        for i in range(low, high):
            first = max(start, self._starts[i])
            offset = self._offsets[i] + (first - self._starts[i]) * self._page_bytes
            runs.append((first, min(stop, self._stops[i]), offset))
        return runs

    def cut(self, stop: int) -> None:
        """Forget all pages from ``stop`` on."""
        if not self._stops or self._stops[-1] <= stop:
            return
        high = bisect_left(self._starts, stop)
        for i in range(high, len(self._starts)):
            self.page_count -= self._stops[i] - self._starts[i]
        del self._starts[high:], self._stops[high:], self._offsets[high:]
        if high and self._stops[-1] > stop:
            self.page_count -= self._stops[-1] - stop
            self._stops[-1] = stop

    def clear(self) -> None:
        """Forget all pages."""
        self.cut(0)
