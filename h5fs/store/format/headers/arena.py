"""The bytes of many object headers, read from the file in few calls and loaded by numpy.

Keeps nothing of the file between batches; never raises for a damaged or unreadable file.

Format: HDF5 File Format Specification 3.0, I.B (integers are little-endian, an undefined address
has all bits set).
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import numpy.typing as npt

from h5fs.store.sources.interface import Source

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_GAP_BYTES = 1024
"""Blocks that are no further apart are read by one call, which costs less than two."""
_ARENA_BYTES = 32 << 20
_OVERREAD_BYTES = 64
# Over a network, since headers lie close together and larger pieces save requests.
_FETCHED_UNIT_BYTES = 2**18


class Arena:
    """The bytes that were read from the file for one batch, one after another.

    Memory is touched only as far as it is used. Positions count from the arena's start.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._used = 0
        self._places: list[int] = []
        self._starts: list[int] = []
        self.file_size_bytes = source.size_bytes
        # A load may reach behind what was read; such bytes are masked or ignored.
        self.data: npt.NDArray[np.uint8] = np.empty(_ARENA_BYTES + _OVERREAD_BYTES, np.uint8)
        self._words = np.ndarray((len(self.data) - 7,), "<i8", buffer=self.data, strides=(1,))

    def clear(self) -> None:
        """Forget what was read."""
        self._used = 0
        self._places, self._starts = [], []

    def file_offset(self, at: Ints) -> Ints:
        """Return where in the file the bytes at each position were read."""
        if not at.size:
            return at
        places, starts = np.array(self._places), np.array(self._starts)
        span = np.searchsorted(places, at, "right") - 1
        offset: Ints = starts[span] + at - places[span]
        return offset

    def word(self, at: Ints) -> Ints:
        """Return the eight bytes at each position, as a little-endian signed integer."""
        return self._words[at]

    def integer(self, at: Ints, size_bytes: int) -> Ints:
        """Return the unsigned integer at each position; -1 for one with all bits set."""
        if size_bytes == 8:
            return self.word(at)
        mask = (1 << 8 * size_bytes) - 1
        value = self.word(at) & mask
        return np.where(value == mask, np.int64(-1), value)

    def is_like_first(self, at: Ints, size_bytes: int) -> Bools:
        """Return whether the bytes at each position are those at the first one."""
        count = len(self.data) - size_bytes + 1
        spans = np.ndarray((count,), f"V{size_bytes}", buffer=self.data, strides=(1,))[at]
        rows = spans.view(np.uint8).reshape(-1, size_bytes)
        same: Bools = (rows == rows[0]).all(axis=1)
        return same

    def read(self, offset: Ints, size: Ints) -> tuple[Ints, Ints]:
        """Read spans of the file.

        Returns where each span starts and ends in the arena. A span is shorter than its ``size``
        when the file is cut off or unreadable, or the arena full. Spans that are close together are
        read by one call.
        """
        order = np.argsort(offset, kind="stable")
        first = offset[order]
        reach = np.maximum.accumulate(first + size[order])
        begins = np.ones(len(order), np.bool_)
        begins[1:] = first[1:] > reach[:-1] + _GAP_BYTES
        heads = np.flatnonzero(begins)
        span = np.cumsum(begins) - 1
        starts = first[heads]
        lengths = reach[np.append(heads[1:], len(order)) - 1] - starts
        places = self._used + np.cumsum(lengths) - lengths
        ends = self._fill(starts.tolist(), lengths.tolist(), places.tolist())
        at, end = np.empty_like(offset), np.empty_like(offset)
        at[order] = places[span] + first - starts[span]
        end[order] = ends[span]
        return at, end

    def _fill(self, starts: list[int], lengths: list[int], places: list[int]) -> Ints:
        spans = zip(starts, lengths, strict=True)
        with suppress(OSError):  # read_into fails then, too
            self._source.ensure(
                [(start, start + length) for start, length in spans], unit_bytes=_FETCHED_UNIT_BYTES
            )
        ends = []
        view = self.data.data
        for start, length, place in zip(starts, lengths, places, strict=True):
            end = place + length
            if end > _ARENA_BYTES:
                ends.append(place)
                continue
            self._used = end
            self._places.append(place)
            self._starts.append(start)
            try:
                ends.append(place + self._source.read_into(view[place:end], start))
            except OSError:
                ends.append(place)
        return np.array(ends, np.int64)
